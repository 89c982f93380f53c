"""Losses over the scores of a call, computed beside the model: one score a triple, in groups or with labels.

Each is a mean, so that its scale does not depend on how many triples a call holds, and a sum over groups or labels, so
that a call can be cut between them.
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from protocol.problems import InvalidRequest
from services.scorer.requests import Ints, ScoreGradient


class CallLoss:
    """The loss of one call.

    Attributes:
        units: int64 [t], triples that the loss compares with each other have equal numbers.
    """

    def __init__(self, given: ScoreGradient) -> None:
        """Find the groups.

        Raises:
            InvalidRequest: A group has no negative.
        """
        assert given.loss is not None
        self._loss, self._labels = given.loss, given.labels
        if given.groups is None:
            assert given.labels is not None
            self.units: Ints = np.arange(len(given.labels))
            self._count = len(given.labels)
            return
        numbers, first, self.units, sizes = np.unique(
            given.groups, return_index=True, return_inverse=True, return_counts=True
        )
        if (alone := np.flatnonzero(sizes < 2)).size:
            raise InvalidRequest.of("groups", f"group {numbers[alone[0]]} has no negative beside its positive")
        self._positive = np.zeros(len(self.units), dtype=bool)
        self._positive[first] = True
        self._count = len(numbers)
        self._negatives = len(self.units) - self._count

    def part(self, scores: Tensor, triples: Ints) -> Tensor:
        """What whole units contribute to the loss, a scalar with a gradient.

        Args:
            scores: [b], of some triples.
            triples: int64 [b], which these are; all of each unit.
        """
        if self._labels is not None:
            labels = torch.from_numpy(self._labels[triples]).to(scores)
            return F.binary_cross_entropy_with_logits(scores, labels, reduction="sum") / self._count
        order = np.argsort(self.units[triples], kind="stable")
        units = self.units[triples][order]
        scores = scores[torch.from_numpy(order).to(scores.device)]
        group = torch.from_numpy(np.cumsum(np.append(False, units[1:] != units[:-1]))).to(scores.device)
        true = torch.from_numpy(self._positive[triples][order]).to(scores.device)
        positive, negative, of = scores[true], scores[~true], group[~true]
        if self._loss.name == "cross_entropy":
            return self._cross_entropy(positive, scores, group)
        if self._loss.name == "self_adversarial":
            return self._self_adversarial(positive, negative, of)
        return F.relu(self._loss.margin - positive[of] + negative).sum() / self._negatives

    def _cross_entropy(self, positive: Tensor, scores: Tensor, group: Tensor) -> Tensor:
        """- log softmax of the positive within its group."""
        return (_logsumexp(scores, group, len(positive)) - positive).sum() / self._count

    def _self_adversarial(self, positive: Tensor, negative: Tensor, of: Tensor) -> Tensor:
        """Self-adversarial negative sampling (Sun et al., RotatE, 2019, equation 5); weights carry no gradient."""
        hard = self._loss.temperature * negative.detach()
        weights = (hard - _logsumexp(hard, of, len(positive))[of]).exp()
        losses = -F.logsigmoid(self._loss.margin + positive)
        losses = losses.index_add(0, of, -weights * F.logsigmoid(-self._loss.margin - negative))
        return losses.sum() / (2 * self._count)


def _logsumexp(numbers: Tensor, group: Tensor, groups: int) -> Tensor:
    """Log of the sum of exp within each group, [groups]."""
    highest = numbers.new_full((groups,), -torch.inf).scatter_reduce(0, group, numbers.detach(), "amax")
    sums = numbers.new_zeros(groups).index_add(0, group, (numbers - highest[group]).exp())
    return sums.log() + highest
