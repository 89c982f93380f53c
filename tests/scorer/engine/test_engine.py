import itertools

import numpy as np
import pytest
import torch

from protocol.problems import BodyTooLarge, ModelFailed
from services.scorer import embedded, engine
from services.scorer.engine.engine import Engine
from services.scorer.requests import EncodeCall, ScoreCall, Slots
from services.scorer.settings import Settings
from services.scorer.templates import shipped

from ..models import difference, exact, loaded, plain_score, plain_state, tiny

LIMITS = Settings().limits(2048)
KINDS = ["text", "vectors", "both", "mixed"]


def slots(kind: str, count: int, k: int, hidden: int, dtype: str, seed: int) -> Slots:
    """Rows of one kind, or of all kinds in turn with different numbers of vectors."""
    texts, counts = {}, []
    for row in range(count):
        chosen = ("text", "vectors", "both")[row % 3] if kind == "mixed" else kind
        if chosen != "vectors":
            texts[row] = f"name {row}" * (1 + row % 3)
        counts.append(0 if chosen == "text" else k + (row % 2 if kind == "mixed" else 0))
    vectors = np.random.default_rng(seed).normal(size=(sum(counts), hidden)).astype(dtype)
    return Slots(vectors, np.cumsum(counts) - counts, np.array(counts), texts)


def one(rows: Slots, row: int, vectors: torch.Tensor) -> tuple:
    """A slot as the plain reference takes it."""
    start, count = rows.starts[row], rows.counts[row]
    return rows.texts.get(row), vectors[start : start + count] if count else None


def filled(call, names: str, row: np.ndarray, entities: torch.Tensor, relations: torch.Tensor) -> dict:
    return {
        name: one(call.relations, i, relations) if name == "relation" else one(call.entities, i, entities)
        for name, i in zip(names.split(), row, strict=True)
    }


def score_call(kind: str, k: int, hidden: int) -> ScoreCall:
    triples = np.array([[0, 0, 1], [1, 2, 3], [4, 1, 4], [5, 0, 0], [2, 2, 1]])
    return ScoreCall(slots(kind, 6, k, hidden, "f4", 1), slots(kind, 3, k, hidden, "f4", 2), triples, "triple")


def encode_call(kind: str, k: int, hidden: int, dtype: str = "f4") -> EncodeCall:
    queries = np.array([[0, 0], [1, 2], [4, 1], [5, 0], [2, 2], [0, 0]])
    sides = np.array([0, 1, 1, 0, 0, 1])
    return EncodeCall(slots(kind, 6, k, hidden, dtype, 3), slots(kind, 3, k, hidden, dtype, 4), queries, sides)


def plain_states(model, call: EncodeCall, entities: torch.Tensor, relations: torch.Tensor) -> torch.Tensor:
    names = {0: ("tail", "head relation"), 1: ("head", "tail relation")}
    states = []
    for query, side in zip(call.queries, call.sides, strict=True):
        template, order = names[side]
        states.append(plain_state(model, template, filled(call, order, query, entities, relations)))
    return torch.stack(states)


@pytest.mark.parametrize(("kind", "k"), list(itertools.product(KINDS, [1, 4])))
def test_scores_agree_with_plain_calls(kind: str, k: int) -> None:
    for model in (tiny(), embedded.build()[0].requires_grad_(False)):
        call = score_call(kind, k, model.config.hidden_size)
        scores, _ = Engine(loaded(model), shipped(), LIMITS).score(call)
        entities, relations = torch.from_numpy(call.entities.vectors), torch.from_numpy(call.relations.vectors)
        plain = [
            plain_score(model, "triple", filled(call, "head relation tail", t, entities, relations))
            for t in call.triples
        ]
        assert difference(scores, plain) < 1e-5


@pytest.mark.parametrize(("kind", "k", "layers"), list(itertools.product(KINDS, [1, 4], [1, 2])))
def test_states_and_gradients_agree_with_plain_calls(kind: str, k: int, layers: int) -> None:
    model = exact(tiny(layers))
    call = encode_call(kind, k, 32, "f8")
    run = Engine(loaded(model), shipped(), LIMITS)
    states, _ = run.encode(call)
    given = np.random.default_rng(5).normal(size=states.shape)
    ours = run.encode_gradient(call, given)[:2]

    vectors = [torch.from_numpy(s.vectors).clone().requires_grad_() for s in (call.entities, call.relations)]
    plain = plain_states(model, call, *vectors)
    assert difference(states, plain.detach()) < 1e-10
    if kind == "text":
        assert [gradient.shape for gradient in ours] == [(0, 32), (0, 32)]
        return
    wanted = torch.autograd.grad(plain, vectors, torch.from_numpy(given))
    assert max(difference(*pair) for pair in zip(ours, wanted, strict=True)) < 1e-10


def test_gradients_agree_with_finite_differences() -> None:
    run = Engine(loaded(exact(tiny())), shipped(), LIMITS)
    call = encode_call("both", 2, 32, "f8")
    given = np.random.default_rng(6).normal(size=(len(call.queries), 32))
    entities, relations, _ = run.encode_gradient(call, given)
    for side, gradient in ((call.entities, entities), (call.relations, relations)):
        for place in [(0, 0), (1, 7), (3, 31)]:
            values = []
            for step in (1e-5, -1e-5):
                side.vectors[place] += step
                values.append(float((run.encode(call)[0] * given).sum()))
                side.vectors[place] -= step
            assert (values[0] - values[1]) / 2e-5 == pytest.approx(gradient[place], rel=1e-6, abs=1e-7)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_close(dtype: torch.dtype) -> None:
    call, scored = encode_call("both", 2, 32), score_call("both", 2, 32)
    full, half = (Engine(loaded(tiny().to(kind)), shipped(), LIMITS) for kind in (torch.float32, dtype))
    states = full.encode(call)[0]
    assert half.encode(call)[0].dtype == np.float32
    assert difference(half.encode(call)[0], states) < 0.1
    assert difference(half.score(scored)[0], full.score(scored)[0]) < 0.1
    given = np.random.default_rng(5).normal(size=states.shape).astype("f4")
    exactly, roughly = (run.encode_gradient(call, given)[0] for run in (full, half))
    assert difference(roughly, exactly) < 0.05 * float(np.abs(exactly).max())


def test_pieces_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    call = encode_call("mixed", 2, 32)
    whole = Engine(loaded(tiny()), shipped(), LIMITS)
    monkeypatch.setattr(engine, "PIECE_NUMBERS", 20 * (10 * 32 + 3 * 48))
    cut = Engine(loaded(tiny()), shipped(), LIMITS)
    states = whole.encode(call)[0]
    assert difference(states, cut.encode(call)[0]) < 1e-5
    assert difference(whole.score(score_call("mixed", 2, 32))[0], cut.score(score_call("mixed", 2, 32))[0]) < 1e-5
    for one_piece, many in zip(
        whole.encode_gradient(call, states)[:2], cut.encode_gradient(call, states)[:2], strict=True
    ):
        assert difference(one_piece, many) < 1e-5


def test_usage_counts_positions_and_what_was_shared() -> None:
    run = Engine(loaded(tiny()), shipped(), LIMITS)
    call = EncodeCall(
        *(slots("vectors", 2, 4, 32, "f4", i) for i in (0, 1)), np.array([[0, 0], [1, 1]]), np.array([0, 0])
    )
    usage = run.encode(call)[1]
    # <s> head : 4 vectors, line relation : 4 vectors, line tail : of which the first three are computed once for all.
    assert (usage.prompts, usage.tokens, usage.shared_tokens) == (2, 2 * 17, 2 * 3)


def test_limits_of_tokens_name_themselves() -> None:
    call = encode_call("text", 1, 32)
    short = Engine(loaded(tiny()), shipped(), LIMITS.model_copy(update={"max_prompt_tokens": 8}))
    with pytest.raises(BodyTooLarge, match="max_prompt_tokens is 8"):
        short.encode(call)
    few = Engine(loaded(tiny()), shipped(), LIMITS.model_copy(update={"max_call_tokens": 30}))
    with pytest.raises(BodyTooLarge, match="max_call_tokens is 30"):
        few.encode(call)


def test_a_model_that_raises_or_overflows_is_reported(caplog: pytest.LogCaptureFixture) -> None:
    model = tiny()
    run = Engine(loaded(model), shipped(), LIMITS)
    call = encode_call("vectors", 1, 32)
    model.model.norm.weight.fill_(float("inf"))
    with pytest.raises(ModelFailed, match="NaN or infinity"):
        run.encode(call)
    model.model.norm.weight = None
    with pytest.raises(ModelFailed, match="TypeError"):
        run.encode(call)


def test_special_tokens_in_a_text_are_letters() -> None:
    model = tiny()
    run = Engine(loaded(model), shipped(), LIMITS)
    empty = np.zeros((0, 32), dtype="f4")
    none = np.zeros(1, dtype=np.int64)
    call = EncodeCall(
        Slots(empty, none, none, {0: "</s>"}), Slots(empty, none, none, {0: "r"}), np.array([[0, 0]]), none
    )
    assert run.encode(call)[1].tokens == 3 + len(" </s>") + 3 + len(" r") + 3


def test_no_weight_ever_requires_gradients() -> None:
    model = tiny()
    run = Engine(loaded(model), shipped(), LIMITS)
    call = encode_call("mixed", 1, 32)
    run.encode_gradient(call, run.encode(call)[0])
    assert not any(weight.requires_grad or weight.grad is not None for weight in model.parameters())


def test_small_gradients_survive_half_precision() -> None:
    call = encode_call("vectors", 1, 32)
    exact, half = (Engine(loaded(tiny().to(dtype)), shipped(), LIMITS) for dtype in (torch.float32, torch.float16))
    states, _ = exact.encode(call)
    direction = np.sign(states)
    wanted = exact.encode_gradient(call, direction)[0] * 1e-9
    found = half.encode_gradient(call, direction * np.float32(1e-9))[0]
    np.testing.assert_allclose(found, wanted, atol=0.05 * np.abs(wanted).max())
