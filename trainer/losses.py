"""Losses over the scores of queries: `scores` is float32 [q, n], every query against every candidate.

`row` and `answer` are int64 [a]: the true (query, entity) pairs. Each loss is a mean over queries or pairs, so that its
scale does not depend on the batch size.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from protocol.trainings import LocalSettings


def loss_of(
    scores: Tensor, row: Tensor, answer: Tensor, settings: LocalSettings, offset: float, generator: torch.Generator
) -> Tensor:
    """The loss that the settings name; `offset` is added to scores that are negative distances (gamma of FedE)."""
    if settings.loss == "cross_entropy":
        return cross_entropy(scores, row, answer, settings.label_smoothing)
    rivals = sample_negatives(scores.shape, row, answer, settings.negatives, generator)
    negative = scores[row[:, None], rivals]
    positive = scores[row, answer]
    if settings.loss == "self_adversarial":
        return self_adversarial(positive + offset, negative + offset, settings.temperature)
    return margin_ranking(positive, negative, settings.margin)


def cross_entropy(scores: Tensor, row: Tensor, answer: Tensor, smoothing: float) -> Tensor:
    """Cross-entropy between softmax over all candidates and a target that is uniform over a query's answers.

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
    weights = F.softmax(temperature * negative.detach(), dim=1)
    return (-F.logsigmoid(positive) - (weights * F.logsigmoid(-negative)).sum(dim=1)).mean() / 2


def margin_ranking(positive: Tensor, negative: Tensor, margin: float) -> Tensor:
    """max(0, margin - positive + negative), the loss of TransE (Bordes et al., 2013, equation 1)."""
    return F.relu(margin - positive[:, None] + negative).mean()


def sample_negatives(shape: torch.Size, row: Tensor, answer: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """int64 [a, count]: uniform candidates for each true pair that do not answer its query, drawn with replacement.

    Where every candidate answers the query there is nothing else to draw, so true answers remain.
    """
    queries, candidates = shape
    weights = torch.ones(queries, candidates)
    weights[row, answer] = 0.0
    weights[weights.sum(dim=1) == 0] = 1.0
    return torch.multinomial(weights[row], count, replacement=True, generator=generator)
