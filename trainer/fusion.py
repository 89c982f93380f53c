"""Fusion: two models' scores, combined by a small model learned on validation triples (FedE; Chen et al., 2021).

Scores of different models have different scales, so each query's scores are standardised first. What is learned is one
share a side: fused = (1 - share) * z(first) + share * z(second). A federation fuses isolation and federation.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from protocol.messages import HEAD, TAIL
from trainer.answers import Queries
from trainer.graph import Graph
from trainer.metrics import Ranks
from trainer.ranking import Asked, Scorer, known_answers

Floats = NDArray[np.floating]

SHARES = np.linspace(0.0, 1.0, 21)
"""Shares of the second model that are tried. The MRR is a step function of them, which gradients say nothing about."""

QUERIES_A_PIECE = 32
"""Scores that are fused at once stay in the processor's cache from one share to the next."""


@dataclass(frozen=True)
class Fusion:
    """The learned weights, float32 [2 sides, 2 models]: rows are tail and head, columns the first and the second."""

    weights: Floats

    @classmethod
    def of_shares(cls, tail: float, head: float) -> "Fusion":
        """The second model's share for queries that ask for the tail and for the head; the first has the rest."""
        weights = np.empty((2, 2), dtype=np.float32)
        weights[TAIL], weights[HEAD] = (1 - tail, tail), (1 - head, head)
        return cls(weights)

    def scorer(self, first: Scorer, second: Scorer) -> Scorer:
        """The fused model, as `trainer.ranking.rank` asks for it."""

        def scores(queries: Queries) -> Floats:
            return self.fuse(_standard(first(queries)), _standard(second(queries)), queries)

        return scores

    def fuse(self, first: Floats, second: Floats, queries: Queries) -> Floats:
        """Fused scores [q, candidates] of two models' standardised ones, in their dtype."""
        weights = self.weights[queries.side]
        fused: Floats = weights[:, :1] * first + weights[:, 1:] * second
        return fused


def fit(graph: Graph, first: Scorer, second: Scorer, tolerance: float = 0.0) -> Fusion:
    """The shares that do best on the graph's validation triples, as `learned` chooses them.

    Args:
        graph: The client's.
        first: One model: of a federation, the one trained alone.
        second: The other: of a federation, the federated one.
        tolerance: For ties, as of `trainer.ranking.rank`.
    """
    return learned(_reciprocal_ranks(graph, first, second, tolerance))


def learned(quality: Floats) -> Fusion:
    """The shares that do best on validation triples, each side for itself.

    A share is fitted on one random half of the validation triples, where it has the best filtered, realistic MRR; of
    shares that are level, the one nearest to one half. On the other half it must beat the better one of the two models
    alone; where it does not, that model is taken alone, the second where the two are level. Without validation triples
    there is nothing to learn from, and both models weigh the same.

    Args:
        quality: Reciprocal rank of each validation triple with each of `SHARES`, float64 [2 sides, shares, t].
    """
    count = quality.shape[2]
    if not count:
        return Fusion.of_shares(0.5, 0.5)
    fitting = fitting_half(count)
    tail, head = (_share(side[:, fitting].sum(axis=1), side[:, ~fitting].sum(axis=1)) for side in quality)
    return Fusion.of_shares(tail, head)


def reciprocal(ranks: Ranks) -> Floats:
    """Reciprocal ranks by side, float64 [2, t]."""
    both = np.empty((2, len(ranks)))
    both[TAIL], both[HEAD] = 1 / ranks.tail.realistic, 1 / ranks.head.realistic
    return both


def fitting_half(count: int) -> NDArray[np.bool_]:
    """Which of so many validation triples a share is fitted on, [count]: half of them, always the same ones."""
    return np.random.default_rng(0).permutation(count) < (count + 1) // 2


def _share(fitting: Floats, selecting: Floats) -> float:
    """One of `SHARES`, from the quality of each, [shares], on the two halves."""
    fitted = np.lexsort((-np.abs(SHARES - 0.5), fitting))[-1]
    alone = 0 if selecting[0] > selecting[-1] else -1
    return float(SHARES[fitted if selecting[fitted] > selecting[alone] else alone])


def _reciprocal_ranks(graph: Graph, first: Scorer, second: Scorer, tolerance: float) -> Floats:
    """Of each validation triple with each share, float64 [2 sides, shares, t]. Both models score once."""
    asked = Asked.of(graph.triples["valid"], known_answers(graph, "valid"))
    counts = np.empty((len(SHARES), len(asked.answers.entities), 3), dtype=np.int64)
    fusions = [Fusion.of_shares(share, share) for share in SHARES]
    for rows in asked.chunks():
        queries = asked.answers.queries[rows]
        one, other = _standard(first(queries)), _standard(second(queries))
        for piece, part in _pieces(rows):
            for i, fusion in enumerate(fusions):
                fused = fusion.fuse(one[part], other[part], queries[part])
                counts[i, asked.pairs(piece)] = asked.count(piece, fused, tolerance)
    return np.stack([reciprocal(asked.ranks(of_share)) for of_share in counts], axis=1)


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
