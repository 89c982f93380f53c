"""Means over clients: of metrics, weighted by the triples that each ranked (FedE) and plain, and of losses."""

from collections.abc import Sequence

from protocol.rounds import Evaluation, MeanEvaluation, Metrics, SideName
from services.coordinator.store.schema import Update


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


def mean_loss(updates: Sequence[Update]) -> float | None:
    """The mean of the updates' losses, weighted by training triples; None of no update."""
    triples = sum(update.triples for update in updates)
    return sum(update.triples * update.loss for update in updates) / triples if triples else None
