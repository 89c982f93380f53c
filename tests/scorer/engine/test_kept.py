from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from protocol.problems import ModelFailed
from protocol.scoring import Loss
from services.scorer.engine.engine import Engine
from services.scorer.engine.forward import Forward
from services.scorer.engine.kept import Kept, Ran, digest_of
from services.scorer.requests import EncodeCall, ScoreCall, ScoreGradient, SlotText
from services.scorer.results import Gradients

from ..models import complete, difference
from .calls import encode_call, engine, exact_model, model, named_call, plain_scores, score_call, together

MUCH = 1 << 30


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def some() -> list[Ran]:
    none = torch.zeros(0)
    return [Ran(none, none, none, np.zeros(0, dtype=np.int64))]


def test_what_is_kept_is_given_out_once() -> None:
    kept, ran = Kept(10, 100), some()
    kept.put("a", ran, 40)
    assert kept.size == 40
    assert kept.take("b") is None
    assert kept.take("a") is ran
    assert (kept.take("a"), kept.size) == (None, 0)


def test_what_waits_too_long_is_dropped() -> None:
    clock = Clock()
    kept = Kept(10, 100, clock)
    kept.put("a", some(), 40)
    clock.now += 6
    kept.put("b", some(), 40)
    clock.now += 3.9
    kept.sweep()
    assert kept.size == 80
    clock.now += 0.2
    kept.sweep()
    assert kept.size == 40
    clock.now += 6
    assert (kept.take("b"), kept.size) == (None, 0)


def test_the_oldest_make_room() -> None:
    kept = Kept(10, 100)
    for name in "abc":
        kept.put(name, some(), 40)
    assert kept.size == 80
    assert [kept.take(name) is not None for name in "abc"] == [False, True, True]


def test_the_same_call_twice_is_kept_once_and_pushes_nothing_out() -> None:
    kept, last = Kept(10, 100), some()
    kept.put("b", some(), 30)
    kept.put("a", some(), 40)
    kept.put("a", last, 60)
    assert kept.size == 90
    assert kept.take("a") is last
    assert kept.take("b") is not None


def test_too_much_and_no_time_fit_never() -> None:
    assert Kept(10, 100).fits(100)
    assert not Kept(10, 100).fits(101)
    assert not Kept(0, 100).fits(1)


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """One entry for each run of the forward pass from now on."""
    counted: list[int] = []
    states = Forward.states

    def count(self: Forward, *given: Any) -> Any:
        counted.append(1)
        return states(self, *given)

    monkeypatch.setattr(Forward, "states", count)
    return counted


GIVEN = np.random.default_rng(1).normal(size=7).astype("f4")
SENT = np.random.default_rng(2).normal(size=(7, 32)).astype("f4")


def gradient(run: Engine, call: ScoreCall | EncodeCall) -> Gradients:
    call = replace(call, keep=False)  # it says nothing about what is computed
    if isinstance(call, EncodeCall):
        return complete(run, run.encode_gradient(call, SENT))
    return complete(run, run.score_gradient(call, ScoreGradient(GIVEN)))


def scored(run: Engine, call: ScoreCall | EncodeCall) -> Any:
    return complete(run, run.encode(call) if isinstance(call, EncodeCall) else run.score(call))


CALLS = [
    pytest.param(score_call("mixed", keep=True, dtype="f4"), id="verdict"),
    pytest.param(score_call("mixed", "number", "bare", keep=True, dtype="f4"), id="number"),
    pytest.param(encode_call("mixed", keep=True, dtype="f4"), id="state"),
    pytest.param(encode_call("mixed", 2, keep=True, dtype="f4"), id="state of a layer"),
]


@pytest.mark.parametrize("batch_tokens", [None, 30])
@pytest.mark.parametrize("call", CALLS)
def test_gradients_are_the_same_bits_without_another_forward_pass(
    call: Any, batch_tokens: int | None, runs: list[int]
) -> None:
    run = engine(model(), kept=Kept(10, MUCH), batch_tokens=batch_tokens)
    wanted = gradient(run, call)
    pieces = len(runs)
    assert (pieces > 2) == (batch_tokens is not None)
    plain = scored(run, replace(call, keep=False))
    kept = scored(run, call)
    assert run.kept.size > 0
    assert len(runs) == 3 * pieces
    found = gradient(run, call)
    assert len(runs) == 3 * pieces
    assert run.kept.size == 0
    assert np.array_equal(found.entities, wanted.entities)
    assert np.array_equal(found.relations, wanted.relations)
    if wanted.scores is None:
        assert np.array_equal(kept.states, plain.states)
    else:
        assert np.array_equal(found.scores, kept.scores)
        assert np.array_equal(kept.scores, plain.scores)
        assert np.array_equal(kept.masses, plain.masses)
    assert np.array_equal(gradient(run, call).entities, wanted.entities)  # which runs the forward pass again
    assert len(runs) == 4 * pieces


@pytest.mark.parametrize("batch_tokens", [None, 30])
@pytest.mark.parametrize(
    "loss", [Loss(name="self_adversarial", margin=1), Loss(name="margin_ranking", margin=3), Loss(name="cross_entropy")]
)
def test_losses_are_differentiated_at_what_was_kept(loss: Loss, batch_tokens: int | None, runs: list[int]) -> None:
    run = engine(exact_model(), kept=Kept(10, MUCH), batch_tokens=batch_tokens)
    call = score_call("mixed", keep=True)
    given = ScoreGradient(loss=loss, groups=np.array([0, 1, 0, 2, 2, 1, 0]))
    wanted = complete(run, run.score_gradient(call, given))
    complete(run, run.score(call))
    count = len(runs)
    found = complete(run, run.score_gradient(call, given))
    assert len(runs) == count
    assert found.loss == pytest.approx(wanted.loss, rel=1e-12)
    assert difference(found.scores, wanted.scores) < 1e-10
    assert difference(found.entities, wanted.entities) < 1e-10
    assert difference(found.relations, wanted.relations) < 1e-10


def test_scores_that_have_no_gradient_are_answered_and_not_kept() -> None:
    run = engine(exact_model(), kept=Kept(10, MUCH))
    call = replace(named_call(), keep=True)
    found = complete(run, run.score(call))
    assert difference(found.scores, plain_scores(exact_model(), call)) < 1e-10
    assert run.kept.size == 0


def with_vectors(call: Any) -> Any:
    vectors = call.relations.vectors.copy()
    vectors[-1, -1] = np.nextafter(vectors[-1, -1], np.inf, dtype=vectors.dtype)
    return replace(call, relations=replace(call.relations, vectors=vectors))


def with_text(call: Any) -> Any:
    return replace(call, entities=replace(call.entities, texts=call.entities.texts | {1: SlotText("gouty")}))


def with_counts(call: Any) -> Any:
    return replace(call, entities=replace(call.entities, counts=np.minimum(call.entities.counts, 1)))


VERDICT = score_call("both", keep=True, dtype="f4")
STATE = encode_call("both", keep=True, dtype="f4")
DIFFERING = [
    pytest.param(VERDICT, with_vectors(VERDICT), id="other vectors"),
    pytest.param(VERDICT, with_text(VERDICT), id="other text"),
    pytest.param(VERDICT, with_counts(VERDICT), id="fewer vectors"),
    pytest.param(VERDICT, replace(VERDICT, template="short"), id="another template"),
    pytest.param(replace(VERDICT, template="bare"), replace(VERDICT, template="bare", readout="number"), id="readout"),
    pytest.param(VERDICT, replace(VERDICT, triples=VERDICT.triples[::-1].copy()), id="another order"),
    pytest.param(STATE, replace(STATE, layer=2), id="another layer"),
    pytest.param(STATE, replace(STATE, sides=1 - STATE.sides), id="other sides"),
    pytest.param(STATE, replace(STATE, templates=("short", "head")), id="other templates"),
    pytest.param(STATE, with_vectors(STATE), id="other vectors of queries"),
    pytest.param(STATE, replace(STATE, queries=STATE.queries[::-1].copy()), id="other queries"),
]


@pytest.mark.parametrize(("call", "other"), DIFFERING)
def test_a_differing_call_never_meets_what_was_kept(call: Any, other: Any) -> None:
    assert digest_of(call) != digest_of(other)
    run = engine(model(), kept=Kept(10, MUCH))
    scored(run, call)
    wanted = gradient(engine(model()), other)
    found = gradient(run, other)
    assert np.array_equal(found.entities, wanted.entities)
    assert np.array_equal(found.relations, wanted.relations)
    assert run.kept.size > 0


def test_what_expired_runs_again(runs: list[int]) -> None:
    clock = Clock()
    run = engine(model(), kept=Kept(10, MUCH, clock))
    scored(run, STATE)
    clock.now += 10.1
    count = len(runs)
    found = gradient(run, STATE)
    assert len(runs) > count
    assert np.array_equal(found.entities, gradient(engine(model()), STATE).entities)


def test_what_is_too_large_is_answered_and_not_kept() -> None:
    run = engine(model(), kept=Kept(10, 1000))
    assert np.array_equal(scored(run, STATE).states, scored(engine(model()), STATE).states)
    assert run.kept.size == 0


def test_what_is_not_to_be_kept_is_not() -> None:
    run = engine(model(), kept=Kept(10, MUCH))
    scored(run, replace(STATE, keep=False))
    gradient(run, STATE)
    assert run.kept.size == 0


def test_the_estimate_grows_with_the_call() -> None:
    run = engine(model(), kept=Kept(10, MUCH))
    sizes = []
    for count in (1, 7):
        scored(run, replace(VERDICT, triples=VERDICT.triples[:count]))
        sizes.append(run.kept.size - sum(sizes))
    assert 0 < sizes[0] < sizes[1]


def test_a_backward_pass_that_fails_is_the_models() -> None:
    run = engine(model(), kept=Kept(10, MUCH))
    scored(run, STATE)
    ran = run.kept.take(digest_of(STATE))
    first, second = (run.encode_gradient(STATE, SENT) for _ in range(2))
    first.ran = second.ran = ran
    run.backward(first)
    with pytest.raises(ModelFailed, match="RuntimeError"):
        run.backward(second)


def test_keeping_does_not_hinder_others() -> None:
    run = engine(exact_model(), kept=Kept(10, MUCH))
    call = score_call("both", keep=True)
    complete(run, run.score(call))
    others = together(run, run.score(replace(call, keep=False)), run.encode(encode_call("mixed")))
    assert difference(others[0].scores, plain_scores(exact_model(), call)) < 1e-10
