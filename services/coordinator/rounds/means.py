"""Means of clients' metrics, weighted by the triples that each ranked (FedE)."""

import math
from collections.abc import Sequence

from protocol.rounds import Evaluation, MeanEvaluation, Metrics, SideName


def mean_evaluation(evaluations: Sequence[Evaluation]) -> MeanEvaluation:
    """The mean of at least one evaluation of one mode and split.

    A side's mean runs over the evaluations that hold the side. Sums are exact, so their order does not matter.
    """
    first = evaluations[0]
    names: list[SideName] = ["both", "head", "tail"]
    groups = {name: [(e.triples, e.sides[name]) for e in evaluations if name in e.sides] for name in names}
    return MeanEvaluation(
        mode=first.mode,
        split=first.split,
        clients=len(evaluations),
        triples=sum(e.triples for e in evaluations),
        sides={name: _mean(group) for name, group in groups.items() if group},
    )


def _mean(group: Sequence[tuple[int, Metrics]]) -> Metrics:
    total = sum(triples for triples, _ in group)

    def mean(field: str) -> float:
        # Rounding could lift a mean of ones a little over one.
        return min(1.0, math.fsum(triples * getattr(metrics, field) for triples, metrics in group) / total)

    return Metrics(**{field: mean(field) for field in Metrics.model_fields})
