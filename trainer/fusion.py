"""Fusion: a client's isolated and federated scores, combined by a small model learned on its validation triples (FedE).

Scores of different models have different scales, so each query's scores are standardised first. What is learned is one
share a side: fused = (1 - share) * z(isolation) + share * z(federation).
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from protocol.messages import HEAD, TAIL
from trainer.answers import Queries
from trainer.graph import Graph
from trainer.ranking import Asked, Scorer, known_answers

Floats = NDArray[np.floating]

SHARES = np.linspace(0.0, 1.0, 21)
"""Shares of federation that are tried. The MRR is a step function of the share, which gradients say nothing about."""

QUERIES_A_PIECE = 32
"""Scores that are fused at once stay in the processor's cache from one share to the next."""


@dataclass(frozen=True)
class Fusion:
    """The learned weights, float32 [2 sides, 2 models]: rows are tail and head, columns isolation and federation."""

    weights: Floats

    @classmethod
    def of_shares(cls, tail: float, head: float) -> "Fusion":
        """Federation's share for queries that ask for the tail and for the head; isolation has the rest."""
        weights = np.empty((2, 2), dtype=np.float32)
        weights[TAIL], weights[HEAD] = (1 - tail, tail), (1 - head, head)
        return cls(weights)

    def scorer(self, isolation: Scorer, federation: Scorer) -> Scorer:
        """The fused model, as `trainer.ranking.rank` asks for it."""

        def scores(queries: Queries) -> Floats:
            return self.fuse(_standard(isolation(queries)), _standard(federation(queries)), queries)

        return scores

    def fuse(self, isolation: Floats, federation: Floats, queries: Queries) -> Floats:
        """Fused scores, float32 [q, entities], of two models' standardised ones."""
        weights = self.weights[queries.side]
        fused: Floats = weights[:, :1] * isolation + weights[:, 1:] * federation
        return fused


def fit(graph: Graph, isolation: Scorer, federation: Scorer, tolerance: float = 0.0) -> Fusion:
    """The shares that do best on validation triples, each side for itself.

    A share is fitted on one random half of the validation triples, where it has the best filtered, realistic MRR; of
    shares that are level, the one nearest to one half. On the other half it must beat the better one of the two models
    alone; where it does not, that model is taken alone, federation where the two are level. Without validation triples
    there is nothing to learn from, and both models weigh the same.

    Args:
        graph: The client's.
        isolation: The model trained alone.
        federation: The federated model.
        tolerance: For ties, as of `trainer.ranking.rank`.
    """
    count = len(graph.triples["valid"])
    if not count:
        return Fusion.of_shares(0.5, 0.5)
    quality = _reciprocal_ranks(graph, isolation, federation, tolerance)
    fitting = fitting_half(count)
    tail, head = (_share(side[:, fitting].sum(axis=1), side[:, ~fitting].sum(axis=1)) for side in quality)
    return Fusion.of_shares(tail, head)


def fitting_half(count: int) -> NDArray[np.bool_]:
    """Which of so many validation triples a share is fitted on, [count]: half of them, always the same ones."""
    return np.random.default_rng(0).permutation(count) < (count + 1) // 2


def _share(fitting: Floats, selecting: Floats) -> float:
    """One of `SHARES`, from the quality of each, [shares], on the two halves."""
    fitted = np.lexsort((-np.abs(SHARES - 0.5), fitting))[-1]
    alone = 0 if selecting[0] > selecting[-1] else -1
    return float(SHARES[fitted if selecting[fitted] > selecting[alone] else alone])


def _reciprocal_ranks(graph: Graph, isolation: Scorer, federation: Scorer, tolerance: float) -> Floats:
    """Of each validation triple with each share, float64 [2 sides, shares, t]. Both models score once."""
    asked = Asked.of(graph.triples["valid"], known_answers(graph, "valid"))
    counts = np.empty((len(SHARES), len(asked.answers.entities), 3), dtype=np.int64)
    fusions = [Fusion.of_shares(share, share) for share in SHARES]
    for rows in asked.chunks():
        queries = asked.answers.queries[rows]
        first, second = _standard(isolation(queries)), _standard(federation(queries))
        for piece, part in _pieces(rows):
            for i, fusion in enumerate(fusions):
                fused = fusion.fuse(first[part], second[part], queries[part])
                counts[i, asked.pairs(piece)] = asked.count(piece, fused, tolerance)
    ranks = [asked.ranks(of_share) for of_share in counts]
    quality = np.empty((2, len(SHARES), len(asked.triples)))
    quality[TAIL] = [1 / r.tail.realistic for r in ranks]
    quality[HEAD] = [1 / r.head.realistic for r in ranks]
    return quality


def _pieces(rows: slice) -> Iterator[tuple[slice, slice]]:
    """Small pieces of rows, and where each is in what was scored of these rows."""
    for start in range(rows.start, rows.stop, QUERIES_A_PIECE):
        stop = min(start + QUERIES_A_PIECE, rows.stop)
        yield slice(start, stop), slice(start - rows.start, stop - rows.start)


def _standard(scores: Floats) -> Floats:
    """Standardised by query, float32 [q, entities]; a model that scores all candidates alike says nothing."""
    spread = np.maximum(scores.std(axis=1, keepdims=True), 1e-9)
    standard: Floats = ((scores - scores.mean(axis=1, keepdims=True)) / spread).astype(np.float32, copy=False)
    return standard
