from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from protocol.messages import HEAD, TAIL
from protocol.problems import ModelFailed
from services.scorer.engine.engine import Engine
from services.scorer.engine.tasks import Task
from services.scorer.engine.trees import FAMILY
from services.scorer.engine.words import NoSingleTokens
from services.scorer.model import random_llama
from services.scorer.model.loading import Loaded
from services.scorer.requests import EncodeCall, ScoreCall, ScoreGradient, SlotText
from services.scorer.results import Gradients
from services.scorer.settings import Settings
from services.scorer.templates import load

from ..models import complete, difference, exact, plain_answers, plain_prompt, tiny
from .calls import (
    DEEP,
    KINDS,
    LIMITS,
    OWN,
    SHAPES,
    TEMPLATES,
    encode_call,
    engine,
    exact_engine,
    exact_model,
    filled,
    leaves,
    model,
    named_call,
    off,
    plain_scores,
    plain_states,
    score_call,
    slots,
    texts,
    together,
)

READ = [("verdict", None), ("number", None), ("verdict", "own"), ("verdict", "bare"), ("number", "bare")]
GIVEN = np.random.default_rng(5).normal(size=7)
SENT = np.random.default_rng(6).normal(size=(7, 32))


@pytest.mark.parametrize(("readout", "template"), READ)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", SHAPES)
def test_scores_and_their_gradients_agree_with_plain_calls(
    shape: str, kind: str, readout: str, template: str | None
) -> None:
    run, call = exact_engine(shape), score_call(kind, readout, template)
    vectors = leaves(call)
    plain = plain_scores(exact_model(shape), call, vectors)
    assert difference(complete(run, run.score(call)).scores, plain.detach()) < 1e-10
    found = complete(run, run.score_gradient(call, ScoreGradient(GIVEN)))
    assert difference(found.scores, plain.detach()) < 1e-10
    assert kind == "text" or off(found, vectors, plain, GIVEN) < 1e-10


@pytest.mark.parametrize("template", [None, "head", "short", "link"])
@pytest.mark.parametrize("shape", SHAPES)
def test_likelihoods_agree_with_plain_calls(shape: str, template: str | None) -> None:
    call = named_call(template)
    if template == "head":
        call = replace(call, triples=call.triples[:, ::-1].copy())
    run = exact_engine(shape)
    found = complete(run, run.score(call))
    assert difference(found.scores, plain_scores(exact_model(shape), call)) < 1e-10
    assert found.masses is found.probabilities is None


def test_likelihoods_of_names_of_one_token_each_agree_with_plain_calls() -> None:
    call = named_call(names=("yes", "no", "or"))
    run = exact_engine()
    assert difference(complete(run, run.score(call)).scores, plain_scores(exact_model(), call)) < 1e-10


@pytest.mark.parametrize("readout", ["verdict", "number", "likelihood"])
def test_heads_are_asked_for_by_templates_of_their_own(readout: str) -> None:
    call = score_call("mixed", readout)
    if readout == "likelihood":
        call = replace(named_call(), triples=named_call().triples[:, ::-1].copy())
    run = exact_engine()
    found = complete(run, run.score(call, HEAD)).scores
    assert difference(found, plain_scores(exact_model(), call, side=HEAD)) < 1e-10
    assert readout == "likelihood" or difference(found, plain_scores(exact_model(), call, side=TAIL)) > 0.01


@pytest.mark.parametrize(("readout", "template"), READ)
def test_probabilities_and_masses_agree_with_the_whole_softmax(readout: str, template: str | None) -> None:
    call, chosen = (
        score_call("mixed", readout, template),
        TEMPLATES[template or {"verdict": "triple"}.get(readout, readout)],
    )
    labels = list(chosen.labels) if readout == "verdict" else list("0123456789")
    run = exact_engine()
    found = complete(run, run.score(call))
    masses, probabilities = [], []
    for prompt in filled(call, [leaf.detach() for leaf in leaves(call)]):
        answers, logits = plain_answers(exact_model(), chosen, prompt, labels)
        p = (answers - logits.logsumexp(0)).exp()
        masses.append(p.sum())
        probabilities.append(p[0] / p[:2].sum())
    assert difference(found.masses, masses) < 1e-10
    if readout == "verdict":
        assert difference(found.probabilities, probabilities) < 1e-10
    else:
        assert found.probabilities is None


@pytest.mark.parametrize("templates", [None, ("short", "bare")])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", SHAPES)
def test_states_and_their_gradients_agree_with_plain_calls(
    shape: str, kind: str, templates: tuple[str, str] | None
) -> None:
    run, call = exact_engine(shape), encode_call(kind, templates=templates)
    vectors = leaves(call)
    plain = plain_states(exact_model(shape), call, vectors)
    assert difference(complete(run, run.encode(call)).states, plain.detach()) < 1e-10
    found = complete(run, run.encode_gradient(call, SENT))
    assert kind == "text" or off(found, vectors, plain, SENT) < 1e-10


@pytest.mark.parametrize(("layer", "index"), [("last", 3), ("middle", 1), (1, 1), (2, 2), (3, 3)])
def test_a_layer_is_that_of_hidden_states(layer: str | int, index: int) -> None:
    run, call = exact_engine(), encode_call("mixed", layer)
    vectors = leaves(call)
    plain = plain_states(exact_model(), call, vectors, index)
    assert difference(complete(run, run.encode(call)).states, plain.detach()) < 1e-10
    assert off(complete(run, run.encode_gradient(call, SENT)), vectors, plain, SENT) < 1e-10


@pytest.mark.parametrize("shape", ["one layer, grouped queries", DEEP])
def test_many_candidates_of_one_query_agree_with_plain_calls(shape: str) -> None:
    count = FAMILY + 8
    entities = slots("mixed", count + 1, seed=1)
    call = ScoreCall(entities, slots("vectors", 1, 2), np.array([[0, 0, 1 + n] for n in range(count)]))
    vectors, given = leaves(call), np.random.default_rng(1).normal(size=count)
    run = exact_engine(shape)
    plain = plain_scores(exact_model(shape), call, vectors)
    found = complete(run, run.score_gradient(call, ScoreGradient(given)))
    assert difference(found.scores, plain.detach()) < 1e-10
    assert off(found, vectors, plain, given) < 1e-10


@pytest.mark.parametrize("names", [("gouty", "gout"), ("gout", "gouty"), ("gout", "gout"), ("a", "long one", "b")])
def test_candidates_of_any_lengths_agree_with_plain_calls(names: tuple[str, ...]) -> None:
    call = ScoreCall(texts("h", *names), texts("r"), np.array([[0, 0, 1 + n] for n in range(len(names))]))
    run = exact_engine()
    assert difference(complete(run, run.score(call)).scores, plain_scores(exact_model(), call)) < 1e-10


def test_gradients_agree_with_finite_differences() -> None:
    run, call, query = exact_engine(), score_call("both"), encode_call("both")
    cases: list[tuple[Any, Gradients, Callable[[], Any]]] = [
        (
            call,
            complete(run, run.score_gradient(call, ScoreGradient(GIVEN))),
            lambda: complete(run, run.score(call)).scores @ GIVEN,
        ),
        (
            query,
            complete(run, run.encode_gradient(query, SENT)),
            lambda: (complete(run, run.encode(query)).states * SENT).sum(),
        ),
    ]
    for asked, found, value in cases:
        for rows, gradient in ((asked.entities, found.entities), (asked.relations, found.relations)):
            for place in [(0, 0), (1, 7), (3, 31)]:
                values = []
                for step in (1e-5, -1e-5):
                    rows.vectors[place] += step
                    values.append(value())
                    rows.vectors[place] -= step
                assert (values[0] - values[1]) / 2e-5 == pytest.approx(gradient[place], rel=1e-6, abs=1e-7)


def test_a_row_may_leave_its_vectors_out() -> None:
    call = score_call("both")
    counts = call.entities.counts.copy()
    counts[1] = 0  # it says its text only; its vectors were sent all the same
    call = replace(call, entities=replace(call.entities, counts=counts))
    run, vectors = exact_engine(), leaves(call)
    plain = plain_scores(exact_model(), call, vectors)
    found = complete(run, run.score_gradient(call, ScoreGradient(GIVEN)))
    assert difference(found.scores, plain.detach()) < 1e-10
    assert off(found, vectors, plain, GIVEN) < 1e-10
    assert not found.entities[2:4].any()


def test_vectors_written_as_numbers_are_read_as_text() -> None:
    call = score_call("mixed", triples=[[1, 1, 2]])
    spelled = replace(call, entities=call.entities.spelled(), relations=call.relations.spelled())
    said = [
        texts(*(SlotText(_said(rows.texts[row])) for row in range(len(rows))))
        for rows in (spelled.entities, spelled.relations)
    ]
    assert "[" in said[0].texts[2].name
    run = exact_engine()
    wanted = plain_scores(exact_model(), replace(call, entities=said[0], relations=said[1]))
    assert difference(complete(run, run.score(spelled)).scores, wanted) < 1e-10


def _said(text: SlotText) -> str:
    words = ", ".join(part.strip() for part in (text.name, text.description) if part)
    return " ".join(part for part in (words, text.numbers) if part)


def test_descriptions_are_cut_to_the_scorers_budget() -> None:
    long, cut = (texts(SlotText("gout", said), SlotText(None, said)) for said in ("abcdef", "ab"))
    run = engine(exact_model(), description_tokens=3)  # of which the space is one
    call = ScoreCall(long, texts("r"), np.array([[0, 0, 1]]))
    wanted = plain_scores(exact_model(), replace(call, entities=cut))
    assert difference(complete(run, run.score(call)).scores, wanted) < 1e-10


def test_a_tokenizer_without_a_first_token_needs_none() -> None:
    tokenizer = random_llama.build_tokenizer()
    tokenizer.bos_token = None
    bare = exact_model()
    run = Engine(Loaded(bare, tokenizer, "tiny", "0"), TEMPLATES, LIMITS)
    for template in ("bare", "triple"):
        call = score_call("mixed", template=template)
        wanted = []
        for prompt in filled(call, [leaf.detach() for leaf in leaves(call)]):
            whole = plain_prompt(bare, TEMPLATES[template], prompt)[:, 1:]
            labels = [
                tokenizer(f" {label}", add_special_tokens=False)["input_ids"] for label in TEMPLATES[template].labels
            ]
            logits = bare(inputs_embeds=whole).logits[0, -1]
            wanted.append(logits[labels[0][0]] - logits[labels[1][0]])
        assert difference(complete(run, run.score(call)).scores, wanted) < 1e-10


CUT = [
    pytest.param(lambda run: run.score(score_call("mixed")), id="verdict"),
    pytest.param(lambda run: run.score(named_call()), id="likelihood"),
    pytest.param(lambda run: run.encode(encode_call("mixed")), id="state"),
    pytest.param(lambda run: run.score_gradient(score_call("mixed"), ScoreGradient(GIVEN)), id="gradient"),
    pytest.param(lambda run: run.encode_gradient(encode_call("mixed"), SENT), id="gradient of states"),
]


def numbers(result: Any) -> list[np.ndarray]:
    """All that a result says, without what it cost."""
    return [part for name, part in vars(result).items() if isinstance(part, np.ndarray)]


def apart(first: Any, second: Any) -> float:
    """How far two results are from each other, at most."""
    pairs = list(zip(numbers(first), numbers(second), strict=True))
    assert pairs
    return max((difference(*pair) for pair in pairs if pair[0].size), default=0.0)


@pytest.mark.parametrize("make", CUT)
@pytest.mark.parametrize("shape", ["one layer", DEEP])
def test_pieces_change_nothing(shape: str, make: Any) -> None:
    whole = exact_engine(shape)
    wanted = complete(whole, make(whole))
    for batch_tokens in (100, 1):
        cut = engine(exact_model(shape), batch_tokens=batch_tokens)
        task = make(cut)
        assert len(task.plan.pieces) > 1
        assert apart(complete(cut, task), wanted) < 1e-10


def test_memory_bounds_what_runs_at_once_and_gradients_of_every_layer_need_more() -> None:
    call = score_call("mixed")
    much, little = (engine(exact_model(), memory=memory) for memory in (1 << 30, 1 << 20))
    plans = [
        task.plan for task in (much.score(call), little.score(call), little.score_gradient(call, ScoreGradient(GIVEN)))
    ]
    assert plans[0].at_once == much.batch_tokens
    assert plans[0].at_once > plans[1].at_once >= 3 * plans[2].at_once > 0
    kept = engine(exact_model(), memory=1 << 20).score(replace(call, keep=True))
    assert kept.plan.at_once == plans[2].at_once
    longer = replace(call, entities=replace(call.entities, texts={0: SlotText("long" * 40)}))
    assert little.score(longer).plan.at_once < plans[1].at_once


# Many calls in one batch.

MERGED = 1e-4
"""In single precision, how far a result may be from what the call gives alone: logits, states, and gradients of the
size of one."""

Make = Callable[[Engine], Task]


def some(random: np.random.Generator, gradients: bool, dtype: str) -> Make:
    """A task of any kind."""
    kind, seed, k = KINDS[random.integers(4)], int(random.integers(1000)), int(random.integers(1, 5))
    given: Any = dict(k=k, seed=seed, dtype=dtype)
    count = int(random.integers(1, 30))
    triples = np.stack([random.integers(0, most, count) for most in (7, 3, 7)], axis=1)
    readout = ["verdict", "number", "state", "likelihood"][random.integers(3 if gradients else 4)]
    weights = random.normal(size=(count if readout != "state" else 7, 32)).astype(dtype)
    if readout == "state":
        call = encode_call(kind, templates=[None, ("short", "bare")][seed % 2], **given)
        return lambda run: run.encode_gradient(call, weights) if gradients else run.encode(call)
    names = {"verdict": [None, "own", "bare", "triple_head"], "number": [None, "bare"], "likelihood": [None, "link"]}
    template = names[readout][seed % len(names[readout])]
    scored = score_call("text" if readout == "likelihood" else kind, readout, template, triples, **given)
    if gradients:
        return lambda run: run.score_gradient(scored, ScoreGradient(weights[:, 0]))
    return lambda run: run.score(scored)


@pytest.mark.parametrize("gradients", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_calls_that_run_together_give_what_they_give_alone(shape: str, gradients: bool) -> None:
    for dtype, chosen, tolerance in (("f8", exact_model(shape), 1e-10), ("f4", model(shape), MERGED)):
        run = engine(chosen, batch_tokens=400)  # so that some have pieces left when others are done
        for seed in range(6):
            random = np.random.default_rng(seed)
            made = [some(random, gradients, dtype) for _ in range(random.integers(2, 7))]
            for found, make in zip(together(run, *(make(run) for make in made)), made, strict=True):
                alone = complete(run, make(run))
                assert found.usage == alone.usage
                assert apart(found, alone) < tolerance


def test_states_of_an_inner_layer_run_together() -> None:
    run = exact_engine()
    calls = [encode_call("mixed", 2, seed=seed) for seed in (1, 2)]
    for found, call in zip(together(run, *map(run.encode, calls)), calls, strict=True):
        assert difference(found.states, plain_states(exact_model(), call, layer=2)) < 1e-10


@pytest.mark.parametrize("shape", ["one layer", DEEP])
def test_nothing_of_one_call_is_in_anothers_gradient(shape: str) -> None:
    run = exact_engine(shape)
    # Both have the same vectors and prompts; each gives a gradient where the other gives none.
    call, given = score_call("vectors"), np.array([1.0, 0, 0, 0, 0, 0, 0])
    first, second = (run.score_gradient(call, ScoreGradient(weights)) for weights in (given, given[::-1].copy()))
    found = together(run, first, second)
    used = [{0, 1}, {2, 1}]
    for result, entities in zip(found, used, strict=True):
        rows = np.flatnonzero(result.entities.any(1))
        assert set((rows // 2).tolist()) == entities
        assert len(rows) == 4
    assert np.flatnonzero(found[0].relations.any(1)).tolist() == [0, 1]
    assert np.flatnonzero(found[1].relations.any(1)).tolist() == [4, 5]


@pytest.mark.parametrize("gradients", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_a_call_that_overflows_fails_alone(shape: str, gradients: bool) -> None:
    run = engine(model(shape))
    good, bad = score_call("mixed", dtype="f4"), score_call("both", dtype="f4", seed=9)
    bad.entities.vectors[0] = np.nan
    given = ScoreGradient(GIVEN.astype("f4"))

    def make(call: ScoreCall) -> Task:
        return run.score_gradient(call, given) if gradients else run.score(call)

    tasks = [make(bad), make(good), make(bad)]
    run.run([task.take() for task in tasks])
    for task in (tasks[0], tasks[2]):
        with pytest.raises(ModelFailed, match="NaN or infinity"):
            task.result()
    assert apart(tasks[1].result(), complete(run, make(good))) < MERGED


# Precision, faults, and what the model is left as.


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_close(dtype: torch.dtype) -> None:
    full, half = engine(tiny()), engine(tiny().to(dtype))
    query, call = encode_call("both", dtype="f4"), score_call("both", dtype="f4")
    states, scores = (complete(full, task) for task in (full.encode(query), full.score(call)))
    found = complete(half, half.encode(query)).states
    assert found.dtype == np.float32
    assert 0 < difference(found, states.states) < 0.1
    read = complete(half, half.score(call))
    assert difference(read.scores, scores.scores) < 0.1
    assert difference(read.masses, scores.masses) < 0.01
    named = named_call()
    assert difference(complete(half, half.score(named)).scores, complete(full, full.score(named)).scores) < 0.1
    exactly, roughly = (
        [
            complete(run, run.encode_gradient(query, SENT.astype("f4"))),
            complete(run, run.score_gradient(call, ScoreGradient(GIVEN))),
        ]
        for run in (full, half)
    )
    for wanted, near in zip(exactly, roughly, strict=True):
        assert difference(near.entities, wanted.entities) < 0.1 * np.abs(wanted.entities).max()


@pytest.mark.parametrize("size", [1e-9, 1.0, 1e6])
def test_gradients_of_any_size_survive_half_precision(size: float) -> None:
    full, half = engine(tiny()), engine(tiny().to(torch.float16))
    query, call = encode_call("vectors", dtype="f4"), score_call("vectors", dtype="f4")
    sent, given = np.sign(SENT).astype("f4"), np.sign(GIVEN).astype("f4")
    wanted = complete(full, full.encode_gradient(query, sent)).entities * size
    found = complete(half, half.encode_gradient(query, sent * np.float32(size))).entities
    np.testing.assert_allclose(found, wanted, atol=0.1 * np.abs(wanted).max(), rtol=0)
    wanted = complete(full, full.score_gradient(call, ScoreGradient(given))).entities * size
    found = complete(half, half.score_gradient(call, ScoreGradient(given * np.float32(size)))).entities
    np.testing.assert_allclose(found, wanted, atol=0.1 * np.abs(wanted).max(), rtol=0)


def test_a_large_gradient_leaves_anothers_small_one_as_it_is_in_half_precision() -> None:
    run = engine(tiny().to(torch.float16))
    call, given = score_call("vectors", dtype="f4"), GIVEN.astype("f4")
    sizes = [np.float32(1e-9), np.float32(1e6)]
    found = together(run, *(run.score_gradient(call, ScoreGradient(given * size)) for size in sizes))
    for size, gradients in zip(sizes, found, strict=True):
        wanted = complete(run, run.score_gradient(call, ScoreGradient(given))).entities * size
        np.testing.assert_allclose(gradients.entities, wanted, atol=0.02 * np.abs(wanted).max(), rtol=0)


def test_no_gradient_at_all_is_zero_in_half_precision() -> None:
    run = engine(tiny().to(torch.float16))
    found = complete(run, run.score_gradient(score_call("both", dtype="f4"), ScoreGradient(np.zeros(7, dtype="f4"))))
    assert not found.entities.any()


@pytest.mark.parametrize("wrong", [torch.inf, torch.nan])
def test_a_model_that_overflows_is_at_fault(wrong: float) -> None:
    broken = tiny()
    run = engine(broken)
    broken.model.norm.weight.fill_(wrong)
    call, query = score_call("vectors", dtype="f4"), encode_call("vectors", dtype="f4")
    for task in (
        run.score(call),
        run.score(score_call("text", "likelihood")),
        run.encode(query),
        run.score_gradient(call, ScoreGradient(GIVEN.astype("f4"))),
        run.encode_gradient(query, SENT.astype("f4")),
    ):
        with pytest.raises(ModelFailed, match="NaN or infinity"):
            complete(run, task)


def test_a_model_that_raises_is_at_fault_and_the_log_says_why(caplog: pytest.LogCaptureFixture) -> None:
    broken = tiny()
    run = engine(broken)

    def out_of_memory(*_: Any) -> None:
        raise RuntimeError("out of memory")

    broken.model.layers[1].self_attn.q_proj.register_forward_pre_hook(out_of_memory)
    for task in (run.score(score_call("text")), run.encode_gradient(encode_call("vectors", dtype="f4"), SENT)):
        with pytest.raises(ModelFailed, match="RuntimeError"):
            complete(run, task)
    assert "out of memory" in caplog.text


def test_no_weight_ever_requires_gradients() -> None:
    frozen = tiny()
    run = engine(frozen)
    before = {name: weight.clone() for name, weight in frozen.named_parameters()}
    complete(run, run.score_gradient(score_call("mixed", dtype="f4"), ScoreGradient(GIVEN.astype("f4"))))
    complete(run, run.encode_gradient(encode_call("mixed", dtype="f4"), SENT.astype("f4")))
    for name, weight in frozen.named_parameters():
        assert not weight.requires_grad
        assert weight.grad is None
        assert torch.equal(weight, before[name])


def test_special_tokens_in_a_text_are_letters() -> None:
    run = exact_engine()
    none = np.zeros(1, dtype=np.int64)
    call = EncodeCall(texts("</s>"), texts("r"), np.array([[0, 0]]), none)
    assert complete(run, run.encode(call)).usage.tokens == 3 + len(" r") + 3 + len(" </s>")


def test_the_users_own_template_must_be_read_and_a_shipped_one_may_lose_a_readout(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(random_llama, "WORDS", [])
    run = engine(exact(tiny()), load())
    assert "the template 'triple' cannot be used for verdict" in caplog.text
    assert "triple" not in run.planner.templates
    assert complete(run, run.score(score_call("mixed", "number"))).scores.shape == (7,)
    with pytest.raises(NoSingleTokens, match="'or', 'no'"):
        engine(exact(tiny()), load() | {"bare": OWN["bare"]})


def test_the_random_model_agrees_with_plain_calls() -> None:
    built = random_llama.build(Settings(model="random"))[0].requires_grad_(False)
    run = engine(built)
    call = score_call("mixed", hidden=built.config.hidden_size, dtype="f4")
    assert difference(complete(run, run.score(call)).scores, plain_scores(built, call)) < 1e-4
