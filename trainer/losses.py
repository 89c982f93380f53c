"""The losses, each a mean over queries or pairs, so that its scale does not depend on the batch size."""

import torch
import torch.nn.functional as F
from torch import Tensor

NO_NEGATIVE = -1e9
"""The score of what is no negative: so implausible that it adds nothing to a loss."""


def cross_entropy(scores: Tensor, row: Tensor, answer: Tensor, smoothing: float) -> Tensor:
    """Cross-entropy between softmax over all candidates and a target that is uniform over a query's answers.

    Args:
        scores: [q, n], every query against every candidate.
        row: int64 [a], the query of each true pair.
        answer: int64 [a], its entity.
        smoothing: s, in [0, 1).

    With label smoothing s, the target is (1 - s) of that plus s of the uniform distribution over all candidates.
    """
    log_probability = F.log_softmax(scores, dim=1)
    answers = torch.bincount(row, minlength=len(scores)).to(scores.dtype)
    picked = (log_probability[row, answer] / answers[row]).sum() / len(scores)
    return -(1 - smoothing) * picked - smoothing * log_probability.mean()


def self_adversarial(positive: Tensor, negative: Tensor, temperature: float) -> Tensor:
    """Self-adversarial negative sampling (Sun et al., RotatE, 2019, equation 5), as FedE uses it.

    Args:
        positive: [a], scores of true pairs, with the margin in them.
        negative: [a, m], scores of their negatives, likewise.
        temperature: alpha; hard negatives weigh more the larger it is. Weights carry no gradient.
    """
    # At temperature 0, too, what is no negative weighs nothing.
    plausible = torch.where(negative > NO_NEGATIVE / 2, temperature * negative, NO_NEGATIVE).detach()
    weights = F.softmax(plausible, dim=1)
    return (-F.logsigmoid(positive) - (weights * F.logsigmoid(-negative)).sum(dim=1)).mean() / 2


def margin_ranking(positive: Tensor, negative: Tensor, margin: float) -> Tensor:
    """max(0, margin - positive + negative), the loss of TransE (Bordes et al., 2013, equation 1)."""
    return F.relu(margin - positive[:, None] + negative).mean()
