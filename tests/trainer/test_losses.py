import math

import numpy as np
import pytest
import torch

from trainer.losses import NO_NEGATIVE, cross_entropy, margin_ranking, self_adversarial

ROW = torch.tensor([0, 0, 1, 2, 2, 2])
ANSWER = torch.tensor([4, 1, 0, 3, 2, 5])
GENERATOR = torch.Generator().manual_seed(0)
SCORES = 3 * torch.randn(3, 6, generator=GENERATOR, dtype=torch.float64)
POSITIVE = 4 * torch.randn(5, generator=GENERATOR, dtype=torch.float64)
NEGATIVE = 4 * torch.randn(5, 7, generator=GENERATOR, dtype=torch.float64)


def softplus(x: float) -> float:
    return math.log1p(math.exp(x))


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.9])
def test_cross_entropy_is_that_of_its_target_distribution(smoothing: float) -> None:
    scores = SCORES.numpy()
    target = np.full((3, 6), smoothing / 6)
    for row, answers in enumerate([[4, 1], [0], [3, 2, 5]]):
        target[row, answers] += (1 - smoothing) / len(answers)
    log_probability = scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))
    expected = -(target * log_probability).sum(axis=1).mean()
    assert cross_entropy(SCORES, ROW, ANSWER, smoothing).item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_cross_entropy_with_one_answer_a_query_is_that_of_torch(smoothing: float) -> None:
    answer = torch.tensor([4, 0, 3])
    ours = cross_entropy(SCORES, torch.arange(3), answer, smoothing)
    theirs = torch.nn.functional.cross_entropy(SCORES, answer, label_smoothing=smoothing)
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("temperature", [0.0, 0.5, 3.0])
def test_self_adversarial_is_its_equation(temperature: float) -> None:
    expected = 0.0
    for positive, negatives in zip(POSITIVE.tolist(), NEGATIVE.tolist(), strict=True):
        weights = [math.exp(temperature * n) for n in negatives]
        pushed = sum(w * softplus(n) for w, n in zip(weights, negatives, strict=True)) / sum(weights)
        expected += (softplus(-positive) + pushed) / 2
    assert self_adversarial(POSITIVE, NEGATIVE, temperature).item() == pytest.approx(expected / 5, rel=1e-12)


def test_adversarial_weights_carry_no_gradient() -> None:
    negative = NEGATIVE.clone().requires_grad_()
    self_adversarial(POSITIVE, negative, 2.0).backward()
    weights = torch.softmax(2 * NEGATIVE, dim=1)
    torch.testing.assert_close(negative.grad, weights * torch.sigmoid(NEGATIVE) / 10)


def test_margin_ranking_is_its_equation() -> None:
    pairs = [(p, n) for p, row in zip(POSITIVE.tolist(), NEGATIVE.tolist(), strict=True) for n in row]
    expected = sum(max(0.0, 2.5 - p + n) for p, n in pairs) / len(pairs)
    assert 0 < sum(2.5 - p + n < 0 for p, n in pairs) < len(pairs)
    assert margin_ranking(POSITIVE, NEGATIVE, 2.5).item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("temperature", [0.0, 0.5])
def test_what_is_no_negative_adds_nothing_to_a_loss(temperature: float) -> None:
    marked = torch.cat([NEGATIVE[:, :3], torch.full((5, 4), NO_NEGATIVE, dtype=torch.float64)], dim=1)
    alone = self_adversarial(POSITIVE, NEGATIVE[:, :3], temperature)
    torch.testing.assert_close(self_adversarial(POSITIVE, marked, temperature), alone)
    nothing = self_adversarial(POSITIVE, torch.full((5, 4), NO_NEGATIVE, dtype=torch.float64), temperature)
    torch.testing.assert_close(nothing, torch.nn.functional.softplus(-POSITIVE).mean() / 2)
    torch.testing.assert_close(
        margin_ranking(POSITIVE, marked, 2.5), 3 / 7 * margin_ranking(POSITIVE, NEGATIVE[:, :3], 2.5)
    )
