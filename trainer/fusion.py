"""Fusion: a client's isolated and federated scores, combined by a small model learned on its validation triples (FedE).

Scores of different models have different scales, so each query's scores are standardised first. What is learned is one
share a side: fused = (1 - share) * z(isolation) + share * z(federation), with the share whose validation MRR is best.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from protocol.messages import HEAD, TAIL
from trainer.answers import Answers, Queries
from trainer.graph import Graph, Triples
from trainer.ranking import Scorer, known_answers, rank

Floats = NDArray[np.floating]

SHARES = np.linspace(0.0, 1.0, 21)
"""Shares of federation that are tried. The MRR is a step function of the share, which gradients say nothing about."""

TRIPLES_A_CHUNK = 512
"""Bounds the [queries, entities, 2] scores that are held at once."""


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
            return self.fuse(_features(isolation, federation, queries), queries)

        return scores

    def fuse(self, features: Floats, queries: Queries) -> Floats:
        """Fused scores [q, entities] of standardised ones [q, entities, 2]."""
        fused: Floats = (features * self.weights[queries.side][:, None, :]).sum(axis=2)
        return fused


def fit(graph: Graph, isolation: Scorer, federation: Scorer) -> Fusion:
    """The shares with the best filtered, realistic MRR on validation triples, each side for itself.

    Of shares that are level, the one nearest to one half is taken. Without validation triples there is nothing to learn
    from, and both models weigh the same.
    """
    triples = graph.triples["valid"]
    if not len(triples):
        return Fusion.of_shares(0.5, 0.5)
    known, quality = known_answers(graph, "valid"), np.zeros((2, len(SHARES)))
    for start in range(0, len(triples), TRIPLES_A_CHUNK):
        quality += _reciprocal_ranks(triples[start : start + TRIPLES_A_CHUNK], known, isolation, federation)
    tail, head = (SHARES[np.lexsort((-np.abs(SHARES - 0.5), side))[-1]] for side in quality)
    return Fusion.of_shares(float(tail), float(head))


def _reciprocal_ranks(triples: Triples, known: Answers, isolation: Scorer, federation: Scorer) -> Floats:
    """Sums of reciprocal ranks, float64 [2 sides, shares]. Both models score once, whatever the shares."""
    asked = Answers.of(triples)
    features = _features(isolation, federation, asked.queries)
    sums = np.empty((2, len(SHARES)))
    for i, share in enumerate(SHARES):
        fusion = Fusion.of_shares(share, share)

        def fused(queries: Queries, fusion: Fusion = fusion) -> Floats:
            return fusion.fuse(features[asked.find(queries)], queries)

        ranks = rank(triples, known, fused)
        sums[TAIL, i], sums[HEAD, i] = (1 / ranks.tail).sum(), (1 / ranks.head).sum()
    return sums


def _features(isolation: Scorer, federation: Scorer, queries: Queries) -> Floats:
    """Standardised scores, float32 [q, entities, 2]."""
    columns = []
    for scorer in (isolation, federation):
        scores = scorer(queries)
        spread = scores.std(axis=1, keepdims=True)
        columns.append((scores - scores.mean(axis=1, keepdims=True)) / np.maximum(spread, 1e-9))
    return np.stack(columns, axis=2).astype(np.float32)
