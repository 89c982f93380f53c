"""Fusion: a client's isolated and federated scores, combined by a small model learned on its validation triples (FedE).

Scores of different models have different scales, so each query's scores are standardised first. What is learned is one
weight a model and side: fused = w_isolation * z(isolation) + w_federation * z(federation).
"""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from trainer.answers import Answers, Queries
from trainer.graph import Graph
from trainer.ranking import Scorer, known_answers

Floats = NDArray[np.floating]

STEPS = 200
LEARNING_RATE = 0.05


@dataclass(frozen=True)
class Fusion:
    """The learned weights, float32 [2 sides, 2 models]: rows are tail and head, columns isolation and federation."""

    weights: Floats

    def scorer(self, isolation: Scorer, federation: Scorer) -> Scorer:
        """The fused model, as `trainer.ranking.rank` asks for it."""

        def scores(queries: Queries) -> Floats:
            features = _features(isolation, federation, queries)
            fused: Floats = (features * self.weights[queries.side][:, None, :]).sum(axis=2)
            return fused

        return scores


def fit(graph: Graph, isolation: Scorer, federation: Scorer) -> Fusion:
    """Fit the weights by cross-entropy over the candidates of the validation queries, known answers left out.

    Without validation triples there is nothing to learn from, and both models weigh the same.
    """
    weights = torch.full((2, 2), 1.0)
    valid = Answers.of(graph.triples["valid"])
    if not len(valid):
        return Fusion(weights.numpy())
    features = torch.from_numpy(_features(isolation, federation, valid.queries))
    side = torch.from_numpy(valid.queries.side)
    row, answer = (torch.from_numpy(c) for c in valid.rows(np.arange(len(valid))))
    rivals = torch.from_numpy(_rivals(graph, valid))
    weights.requires_grad_()
    optimizer = torch.optim.Adam([weights], lr=LEARNING_RATE)
    for _ in range(STEPS):
        fused = (features * weights[side][:, None, :]).sum(dim=2)
        against = torch.logsumexp(fused.masked_fill(~rivals, -torch.inf), dim=1)
        # Each true pair against the rivals of its query: log(1 + exp(rivals - own)).
        loss = F.softplus(against[row] - fused[row, answer]).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return Fusion(weights.detach().numpy())


def _features(isolation: Scorer, federation: Scorer, queries: Queries) -> Floats:
    """Standardised scores, float32 [q, entities, 2]."""
    columns = []
    for scorer in (isolation, federation):
        scores = scorer(queries)
        spread = scores.std(axis=1, keepdims=True)
        columns.append((scores - scores.mean(axis=1, keepdims=True)) / np.maximum(spread, 1e-9))
    return np.stack(columns, axis=2).astype(np.float32)


def _rivals(graph: Graph, valid: Answers) -> NDArray[np.bool_]:
    """Candidates that answer no validation query in training or validation, bool [q, entities]."""
    rivals = np.ones((len(valid), len(graph.entities)), dtype=bool)
    known = known_answers(graph, "valid")
    rivals[known.rows(known.find(valid.queries))] = False
    return rivals
