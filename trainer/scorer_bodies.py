"""Calls as the scorer takes them: cut to its limits, and written as safetensors bodies."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from numpy.typing import NDArray

from protocol import tensors
from protocol.info import Limits
from trainer.interactions.llama_calls import EncoderCall, ScoreCall, Slots
from trainer.texts import Text

HEADER_BYTES = 64 << 10
"""Room in a body for what its header says beside texts, and for each prompt's indices."""
INDEX_BYTES = 32
"""Of one prompt's indices, of its side or group, and of a gradient of its score."""


def parts(call: EncoderCall | ScoreCall, limits: Limits, hidden: int, group: int = 1) -> Iterator[slice]:
    """The prompts of a call, in parts that are within the limits, whatever prompts share.

    Args:
        call: Whose prompts they are.
        limits: Of the scorer.
        hidden: Size of its states.
        group: So many prompts stay together, if need be against a limit, which the scorer then names.
    """
    prompts, entities = (len(call.triples), 2) if isinstance(call, ScoreCall) else (len(call.queries), 1)
    vectors = entities * call.entities.vectors.shape[1] + call.relations.vectors.shape[1]
    words = entities * _text_bytes(call.entities) + _text_bytes(call.relations)
    numbers = 4 * hidden * (vectors + isinstance(call, EncoderCall))
    most = min(
        limits.max_prompts,
        limits.max_slots // entities,
        limits.max_call_tokens // limits.max_prompt_tokens,
        (limits.max_body_bytes - HEADER_BYTES) // (numbers + words + INDEX_BYTES),
        (tensors.MAX_HEADER_BYTES - HEADER_BYTES) // max(1, words),
    )
    step = max(1, most // group) * group
    for start in range(0, prompts, step):
        yield slice(start, start + step)


def encode_body(call: EncoderCall, extra: Mapping[str, NDArray[Any]], **said: object) -> bytes:
    """The body of `/encode` and `/encode/gradient`."""
    arrays = _vectors(call) | {"queries": call.queries, "sides": call.sides}
    return tensors.encode(
        arrays | dict(extra), _texts(call) | {"layer": call.layer, "templates": call.templates} | said
    )


def score_body(call: ScoreCall, extra: Mapping[str, NDArray[Any]], **said: object) -> bytes:
    """The body of `/score` and `/score/gradient`."""
    arrays = _vectors(call) | {"triples": call.triples}
    return tensors.encode(
        arrays | dict(extra), _texts(call) | {"readout": call.readout, "template": call.template} | said
    )


def _vectors(call: EncoderCall | ScoreCall) -> dict[str, NDArray[Any]]:
    """Tensors of slots; without vectors, texts number the rows."""
    slots = {"entities": call.entities.vectors, "relations": call.relations.vectors}
    return {name: vectors for name, vectors in slots.items() if vectors.shape[1]}


def _texts(call: EncoderCall | ScoreCall) -> dict[str, object]:
    """Texts of slots, as `protocol.messages.SlotsHeader` has them."""
    said = {"entity_texts": call.entities.texts, "relation_texts": call.relations.texts}
    return {name: dict(enumerate(map(_text, texts))) for name, texts in said.items() if texts}


def _text(text: Text) -> dict[str, str]:
    return {"name": text.label} | ({"description": text.description} if text.description else {})


def _text_bytes(slots: Slots) -> int:
    """At most so many bytes of the header speak of one row; the message is JSON within JSON, which escapes it twice."""
    return max((len(json.dumps(json.dumps({"12345": _text(text)}))) for text in slots.texts), default=0)
