from typing import Any

import numpy as np
import pytest
import torch

from protocol.messages import TAIL
from protocol.problems import ModelFailed
from protocol.scoring import Loss
from services.scorer.engine.losses import CallLoss
from services.scorer.engine.readouts import Number, Verdict, Vocabulary
from services.scorer.engine.tasks import EncodeTask, ScoreTask, Task, finite
from services.scorer.requests import ScoreCall, ScoreGradient

from ..models import complete, difference
from .calls import (
    SHAPES,
    encode_call,
    engine,
    exact_engine,
    exact_model,
    leaves,
    off,
    plain_loss,
    plain_scores,
    score_call,
    texts,
)

GROUPS = np.array([0, 0, 3, 3, 1, 3, 1])
LABELS = np.array([1, 0, 0.2, 1, 0, 0.9, 0], dtype="f4")
LOSSES = [
    pytest.param("verdict", Loss(name="self_adversarial", margin=1.5, temperature=0.7), "groups", id="adversarial"),
    pytest.param("number", Loss(name="self_adversarial"), "groups", id="adversarial, number"),
    pytest.param("verdict", Loss(name="margin_ranking", margin=2), "groups", id="margin"),
    pytest.param("number", Loss(name="margin_ranking", margin=0.5), "groups", id="margin, number"),
    pytest.param("verdict", Loss(name="cross_entropy"), "groups", id="cross entropy"),
    pytest.param("verdict", Loss(name="cross_entropy"), "labels", id="cross entropy, labels"),
]


def asked(loss: Loss, how: str) -> ScoreGradient:
    return ScoreGradient(
        loss=loss, groups=GROUPS if how == "groups" else None, labels=None if how == "groups" else LABELS
    )


def check(task: Task, run: Any, model: Any, call: ScoreCall, given: ScoreGradient) -> None:
    """A task's gradients, scores and loss are those of plain calls and of autograd."""
    found, vectors = complete(run, task), leaves(call)
    scores = plain_scores(model, call, vectors)
    assert given.loss is not None
    loss = plain_loss(given.loss, scores, given.groups, given.labels)
    assert found.loss == pytest.approx(float(loss.detach()), rel=1e-10)
    assert difference(found.scores, scores.detach()) < 1e-10
    assert off(found, vectors, loss) < 1e-10


@pytest.mark.parametrize("batch_tokens", [None, 150, 1])
@pytest.mark.parametrize(("readout", "loss", "how"), LOSSES)
@pytest.mark.parametrize("shape", ["one layer", "two layers, grouped queries"])
def test_named_losses_agree_with_autograd_however_a_call_is_cut(
    shape: str, readout: str, loss: Loss, how: str, batch_tokens: int | None
) -> None:
    run = engine(exact_model(shape), batch_tokens=batch_tokens)
    call, given = score_call("mixed", readout), asked(loss, how)
    task = run.score_gradient(call, given)
    assert (len(task.plan.pieces) > 1) == (batch_tokens is not None)
    check(task, run, exact_model(shape), call, given)


@pytest.mark.parametrize(("readout", "loss", "how"), LOSSES)
def test_triples_that_are_compared_and_run_apart_are_scored_first(readout: str, loss: Loss, how: str) -> None:
    run = exact_engine()
    call, given = score_call("mixed", readout), asked(loss, how)
    plan = run.planner.score(call, TAIL, lambda longest, depth: 1)
    assert len(plan.pieces) >= 6
    vocabulary = Vocabulary(exact_model().get_output_embeddings().weight)
    answers = torch.from_numpy(plan.groups[0].compiled.answers[readout].tokens)
    looks = Verdict(vocabulary, answers) if readout == "verdict" else Number(vocabulary, answers)
    first, second = (ScoreTask(plan, looks, given, CallLoss(given)) for _ in range(2))
    order = []
    while first.next:
        order.append(first.take().backward)
    assert order == [False] * len(plan.pieces) * (how == "groups") + [True] * len(plan.pieces)
    check(second, run, exact_model(), call, given)


def test_a_task_hands_out_its_pieces_in_turn() -> None:
    run = engine(exact_model(), batch_tokens=40)
    task = run.encode(encode_call("mixed"))
    numbers = []
    while task.next:
        work = task.next
        assert task.take() is work
        numbers += work.numbers.tolist()
    assert sorted(numbers) == list(range(7))


@pytest.mark.parametrize("shape", SHAPES)
def test_vectors_in_no_prompt_have_no_gradient_at_all(shape: str) -> None:
    run = exact_engine(shape)
    call, query = score_call("vectors"), encode_call("vectors")
    found = complete(run, run.score_gradient(call, ScoreGradient(np.ones(7))))
    assert np.flatnonzero((found.entities == 0).all(1)).tolist() == [12, 13]  # those of entity 6
    assert (found.relations != 0).any(1).all()
    found = complete(run, run.encode_gradient(query, np.ones((7, 32))))
    assert np.flatnonzero((found.entities == 0).all(1)).tolist() == [6, 7]
    assert np.flatnonzero((found.relations == 0).all(1)).tolist() == [6, 7]


def test_gradients_have_the_shape_of_the_vectors_even_of_none() -> None:
    run = exact_engine()
    call = ScoreCall(texts("a", "b"), texts("r"), np.array([[0, 0, 1]]))
    found = complete(run, run.score_gradient(call, ScoreGradient(np.ones(1))))
    assert found.entities.shape == found.relations.shape == (0, 32)


def test_results_stand_in_the_calls_order_in_single_precision_at_least() -> None:
    run = exact_engine()
    plan = run.planner.encode(encode_call("mixed"), lambda longest, depth: 1000)
    task = EncodeTask(plan)
    while task.next:
        work = task.take()
        numbers = torch.from_numpy(work.numbers)
        task.read(work, numbers[:, None] * torch.ones(1, 32, dtype=torch.bfloat16), None)
    states = task.result().states
    assert states.dtype == np.float32
    assert states[:, 0].tolist() == list(range(7))


@pytest.mark.parametrize("wrong", [torch.nan, torch.inf, -torch.inf])
def test_a_number_that_is_not_finite_is_the_models_fault(wrong: float) -> None:
    assert finite(torch.ones(3)).tolist() == [1.0] * 3
    with pytest.raises(ModelFailed, match="NaN or infinity; smaller vectors or SCORER_DTYPE=float32 may help"):
        finite(torch.tensor([1.0, wrong, 1.0]))
