import math

import numpy as np
import pytest
import torch
from torch import Tensor

from protocol.trainings import LocalSettings
from trainer.losses import cross_entropy, loss_of, margin_ranking, sample_negatives, self_adversarial

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


def test_negatives_never_answer_their_query_and_cover_all_that_do_not() -> None:
    drawn = sample_negatives(torch.Size((3, 6)), ROW, ANSWER, 200, torch.Generator().manual_seed(0))
    assert drawn.shape == (6, 200)
    for i, row in enumerate(ROW.tolist()):
        assert set(drawn[i].tolist()) == set(range(6)) - set(ANSWER[row == ROW].tolist())


def test_negatives_are_uniform() -> None:
    drawn = sample_negatives(torch.Size((1, 5)), torch.tensor([0]), torch.tensor([2]), 40_000, torch.Generator())
    shares = torch.bincount(drawn[0], minlength=5) / 40_000
    torch.testing.assert_close(shares, torch.tensor([0.25, 0.25, 0.0, 0.25, 0.25]), rtol=0, atol=0.02)


def test_a_query_that_everything_answers_still_draws() -> None:
    drawn = sample_negatives(torch.Size((1, 2)), torch.tensor([0, 0]), torch.tensor([0, 1]), 5, torch.Generator())
    assert drawn.shape == (2, 5)


def named_loss(loss: str, offset: float, seed: int = 0, **fields: float) -> Tensor:
    settings = LocalSettings.model_validate({"loss": loss, "negatives": 20} | fields)
    return loss_of(SCORES, ROW, ANSWER, settings, offset, torch.Generator().manual_seed(seed))


def drawn_scores() -> tuple[Tensor, Tensor]:
    rivals = sample_negatives(SCORES.shape, ROW, ANSWER, 20, torch.Generator().manual_seed(0))
    return SCORES[ROW, ANSWER], SCORES[ROW[:, None], rivals]


def test_settings_choose_the_loss_and_its_constants() -> None:
    positive, negative = drawn_scores()
    assert torch.equal(named_loss("cross_entropy", 9.0, label_smoothing=0.3), cross_entropy(SCORES, ROW, ANSWER, 0.3))
    assert torch.equal(named_loss("margin_ranking", 9.0, margin=2.0), margin_ranking(positive, negative, 2.0))


def test_a_distance_is_offset_by_the_margin_in_the_self_adversarial_loss() -> None:
    positive, negative = drawn_scores()
    expected = self_adversarial(positive + 9.0, negative + 9.0, 0.5)
    assert torch.equal(named_loss("self_adversarial", 9.0, temperature=0.5), expected)


def test_the_generator_decides_the_negatives() -> None:
    first, again, other = (named_loss("margin_ranking", 0.0, seed) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
