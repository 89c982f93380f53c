"""Calls are cut so that whatever they hold is within the scorer's limits."""

import numpy as np
import pytest

from protocol import tensors
from protocol.encoding import ENCODE_TENSORS, EncodeHeader
from protocol.info import Limits
from protocol.messages import SlotsHeader
from protocol.scoring import SCORE_TENSORS, ScoreHeader
from trainer.interactions.llama_calls import EncoderCall, ScoreCall, Slots
from trainer.scorer_bodies import HEADER_BYTES, encode_body, parts, score_body
from trainer.texts import Text

HIDDEN, ROWS = 4, 50
WIDE = Limits(**(dict.fromkeys(Limits.model_fields, 1 << 30) | {"max_prompt_tokens": 1}))
SAYS = Text('a "long" näme\\', "ü" * 700)


def slots(vectors: int, texts: bool) -> Slots:
    found = np.random.default_rng(0).normal(size=(ROWS, vectors, HIDDEN)).astype(np.float32)
    return Slots(found, [SAYS] * ROWS if texts else ())


def encode_call(vectors: int, texts: bool) -> EncoderCall:
    queries = np.stack([np.arange(ROWS), np.arange(ROWS)[::-1]], axis=1).astype(np.int32)
    return EncoderCall(slots(vectors, texts), slots(vectors, texts), queries, np.zeros(ROWS, dtype=np.uint8))


def score_call(vectors: int, texts: bool) -> ScoreCall:
    rows = np.arange(ROWS)
    triples = np.stack([rows, rows[::-1], np.roll(rows, 1)], axis=1).astype(np.int32)
    return ScoreCall(slots(vectors, texts), slots(vectors, texts), triples, "verdict", "triple")


@pytest.mark.parametrize(("vectors", "texts"), [(3, False), (0, True), (2, True)])
@pytest.mark.parametrize("kind", ["encode", "score"])
@pytest.mark.parametrize(
    ("limit", "value"), [("max_body_bytes", HEADER_BYTES + 20_000), ("max_slots", 7), ("max_prompts", 9)]
)
def test_every_part_is_within_the_limits(kind: str, vectors: int, texts: bool, limit: str, value: int) -> None:
    call = encode_call(vectors, texts) if kind == "encode" else score_call(vectors, texts)
    limits, done = WIDE.model_copy(update={limit: value}), 0
    for prompts in parts(call, limits, HIDDEN):
        part, entities, relations = call.part(prompts)
        assert len(part.entities) <= limits.max_slots
        if isinstance(part, EncoderCall):
            body, count = (
                encode_body(part, {"grad_states": np.ones((len(part.queries), HIDDEN), "f4")}),
                len(part.queries),
            )
            here, there = part.queries, call.queries[prompts]
            assert (entities[here[:, 0]] == there[:, 0]).all()
        else:
            body, count = score_body(part, {"groups": np.zeros(len(part.triples), np.int32)}), len(part.triples)
            here, there = part.triples, call.triples[prompts]
            assert (entities[here[:, [0, 2]]] == there[:, [0, 2]]).all()
        assert (relations[here[:, 1]] == there[:, 1]).all()
        assert count <= limits.max_prompts
        assert len(body) <= limits.max_body_bytes
        done += count
    assert done == ROWS


def test_texts_fit_into_the_header_however_large_a_body_may_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensors, "MAX_HEADER_BYTES", HEADER_BYTES + 30_000)
    call = encode_call(0, True)
    sizes = [len(encode_body(call.part(prompts)[0], {})) for prompts in parts(call, WIDE, HIDDEN)]
    assert len(sizes) > 1
    assert max(sizes) <= HEADER_BYTES + 30_000


def test_groups_stay_together() -> None:
    found = [*parts(score_call(1, False), WIDE.model_copy(update={"max_prompts": 7}), HIDDEN, group=5)]
    assert [part.start for part in found] == list(range(0, ROWS, 5))
    alone = [*parts(score_call(1, False), WIDE.model_copy(update={"max_prompts": 3}), HIDDEN, group=5)]
    assert alone == found  # the scorer will say that this is too much


@pytest.mark.parametrize(("vectors", "texts"), [(3, False), (0, True), (2, True)])
def test_bodies_are_what_the_protocol_says(vectors: int, texts: bool) -> None:
    call = encode_call(vectors, texts)
    arrays, message = tensors.decode(encode_body(call, {}, keep=True), ENCODE_TENSORS)
    header: SlotsHeader = EncodeHeader.model_validate(message)
    assert header.keep  # type: ignore[attr-defined]
    assert ("entities" in arrays) == ("relations" in arrays) == (vectors > 0)
    said = {row: SAYS.label for row in range(ROWS)} if texts else {}
    assert {row: text.name for row, text in header.entity_texts.items()} == said
    arrays, message = tensors.decode(score_body(score_call(vectors, texts), {}), SCORE_TENSORS)
    header = ScoreHeader.model_validate(message)
    assert {row: text.description for row, text in header.relation_texts.items()} == dict.fromkeys(
        said, SAYS.description
    )
