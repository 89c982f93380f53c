"""Means of clients' metrics: weighted by the triples that each ranked (FedE), and plain."""

from collections.abc import Sequence

from protocol.rounds import Evaluation, MeanEvaluation, Metrics, SideName


def mean_evaluation(evaluations: Sequence[Evaluation]) -> MeanEvaluation:
    """The means of at least one evaluation of one mode and split.

    A side's mean runs over the evaluations that hold the side.
    """
    first = evaluations[0]
    names: list[SideName] = ["both", "head", "tail"]
    groups = {name: [e for e in evaluations if name in e.sides] for name in names}
    weights = {name: [e.triples for e in group] for name, group in groups.items() if group}
    metrics = {name: [e.sides[name] for e in groups[name]] for name in weights}
    return MeanEvaluation(
        mode=first.mode,
        split=first.split,
        clients=len(evaluations),
        triples=sum(e.triples for e in evaluations),
        sides={name: Metrics.mean(metrics[name], weights[name]) for name in weights},
        macro={name: Metrics.mean(metrics[name], [1] * len(metrics[name])) for name in weights},
    )
