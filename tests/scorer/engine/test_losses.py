from typing import Any

import numpy as np
import pytest
import torch

from protocol.problems import InvalidRequest
from protocol.scoring import Loss
from services.scorer.engine.losses import CallLoss
from services.scorer.requests import ScoreGradient

from ..models import difference
from .calls import plain_loss

GROUPS = np.array([4, 9, 4, 0, 4, 0, 9, 9, 4, 9, 0])
SCORES = np.random.default_rng(3).normal(size=len(GROUPS)) * 3
LABELS = np.array([1, 0, 0.3, 1, 0, 0, 0.9, 1, 0, 0, 1], dtype="f4")
GROUPED = [
    pytest.param(Loss(name="self_adversarial"), id="self adversarial"),
    pytest.param(Loss(name="self_adversarial", margin=2.5, temperature=0.5), id="self adversarial, margin"),
    pytest.param(Loss(name="self_adversarial", margin=1.0, temperature=0.0), id="uniform negatives"),
    pytest.param(Loss(name="margin_ranking", margin=1.5), id="margin ranking"),
    pytest.param(Loss(name="cross_entropy"), id="cross entropy"),
]


def ours(given: ScoreGradient, parts: list[Any]) -> tuple[float, np.ndarray]:
    """The loss and its gradient, as the sum of parts."""
    loss, leaf = CallLoss(given), torch.tensor(SCORES, requires_grad=True)
    value = sum(loss.part(leaf[torch.from_numpy(part)], part) for part in parts)
    (gradient,) = torch.autograd.grad(value, leaf)
    return float(value.detach()), gradient.numpy()


def plain(given: ScoreGradient) -> tuple[float, np.ndarray]:
    assert given.loss is not None
    leaf = torch.tensor(SCORES, requires_grad=True)
    value = plain_loss(given.loss, leaf, given.groups, given.labels)
    (gradient,) = torch.autograd.grad(value, leaf)
    return float(value.detach()), gradient.numpy()


def compare(given: ScoreGradient, parts: list[Any]) -> None:
    (value, gradient), (wanted, wanted_gradient) = ours(given, parts), plain(given)
    assert value == pytest.approx(wanted, rel=1e-12)
    assert difference(gradient, wanted_gradient) < 1e-12


@pytest.mark.parametrize("loss", GROUPED)
def test_losses_of_groups_are_those_of_their_papers(loss: Loss) -> None:
    compare(ScoreGradient(loss=loss, groups=GROUPS), [np.arange(len(GROUPS))])


@pytest.mark.parametrize("loss", GROUPED)
def test_losses_are_sums_over_groups_in_any_order(loss: Loss) -> None:
    parts = [np.flatnonzero(GROUPS == 9)[::-1].copy(), np.flatnonzero(GROUPS != 9)]
    first = [np.array([1, 9, 7, 6]), parts[1]]
    compare(ScoreGradient(loss=loss, groups=GROUPS), first)
    compare(ScoreGradient(loss=loss, groups=GROUPS), parts)


def test_labels_may_lie_between_false_and_true_and_be_cut_anywhere() -> None:
    given = ScoreGradient(loss=Loss(name="cross_entropy"), labels=LABELS)
    compare(given, [np.arange(len(LABELS))])
    compare(given, [np.array([5, 2, 0]), np.array([1, 3, 4, 6]), np.array([7, 8, 9, 10])])


def test_the_first_triple_of_a_group_is_its_positive() -> None:
    given = ScoreGradient(loss=Loss(name="cross_entropy"), groups=GROUPS)
    _, gradient = ours(given, [np.arange(len(GROUPS))])
    assert np.flatnonzero(gradient < 0).tolist() == [0, 1, 3]


@pytest.mark.parametrize("loss", GROUPED)
def test_large_scores_stay_finite(loss: Loss) -> None:
    scores = torch.tensor(SCORES * 1e4, dtype=torch.float32, requires_grad=True)
    value = CallLoss(ScoreGradient(loss=loss, groups=GROUPS)).part(scores, np.arange(len(GROUPS)))
    (gradient,) = torch.autograd.grad(value, scores)
    assert bool(value.isfinite())
    assert bool(gradient.isfinite().all())


def test_a_group_without_a_negative_is_refused_by_its_number() -> None:
    given = ScoreGradient(loss=Loss(name="margin_ranking"), groups=np.array([0, 0, 7]))
    with pytest.raises(InvalidRequest, match="groups") as refused:
        CallLoss(given)
    assert "group 7 has no negative" in refused.value.errors[0].message
