"""Bodies to calls and results to bodies, in both forms: JSON for people, safetensors for programs.

A reply has the form of its request.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np
from pydantic import BaseModel, ValidationError

from protocol import tensors
from protocol.problems import InvalidRequest
from protocol.scoring import (
    ENCODE_GRADIENT_TENSORS,
    ENCODE_TENSORS,
    SCORE_TENSORS,
    EncodeGradientReply,
    EncodeGradientRequest,
    EncodeHeader,
    EncodeReply,
    EncodeRequest,
    NamedTriple,
    Provenance,
    RowText,
    ScoreHeader,
    ScoreReply,
    ScoreRequest,
    Slot,
    Text,
)
from services.scorer.requests import EncodeCall, Floats, Ints, ScoreCall, Slots, check_size, finite
from services.web import parse_json

Header = TypeVar("Header", bound=BaseModel)


def read_score(body: bytes, media: str, hidden: int) -> ScoreCall:
    """The call of a `/score` body. Raises `InvalidRequest`, as its neighbours."""
    if media == tensors.MEDIA_TYPE:
        found, message = tensors.decode(body, _by_itself(SCORE_TENSORS))
        header = _header(ScoreHeader, message)
        return ScoreCall(
            _tensor_slots("entities", found, header.entity_texts, hidden),
            _tensor_slots("relations", found, header.relation_texts, hidden),
            found["triples"].astype(np.int64),
            header.template,
        )
    request = parse_json(ScoreRequest, body)
    if isinstance(request.triples[0], NamedTriple):
        return _named(request, hidden)
    return ScoreCall(
        _json_slots("entities", request.entities, hidden),
        _json_slots("relations", request.relations, hidden),
        _integers("triples", request.triples, 3),
        request.template,
    )


def read_encode(body: bytes, media: str, hidden: int) -> EncodeCall:
    """The call of an `/encode` body."""
    if media == tensors.MEDIA_TYPE:
        found, message = tensors.decode(body, _by_itself(ENCODE_TENSORS))
        return _tensor_encode(found, _header(EncodeHeader, message), hidden)
    return _json_encode(parse_json(EncodeRequest, body), hidden)


def read_encode_gradient(body: bytes, media: str, hidden: int) -> tuple[EncodeCall, Floats]:
    """The call of an `/encode/gradient` body, and d(loss)/d(states), float32 [q, hidden]."""
    if media == tensors.MEDIA_TYPE:
        found, message = tensors.decode(body, _by_itself(ENCODE_GRADIENT_TENSORS))
        grad_states: Floats = found["grad_states"]
        check_size("grad_states", grad_states, hidden)
        return _tensor_encode(found, _header(EncodeHeader, message), hidden), grad_states
    request = parse_json(EncodeGradientRequest, body)
    if len(request.grad_states) != len(request.queries):
        raise InvalidRequest.of(
            "grad_states", f"holds {len(request.grad_states)} gradients for {len(request.queries)} queries"
        )
    fields = [f"grad_states.{row}" for row in range(len(request.grad_states))]
    return _json_encode(request, hidden), finite(request.grad_states, fields, hidden)


def write_score(scores: Floats, made_by: Provenance, media: str) -> bytes:
    """The reply to `/score`."""
    if media == tensors.MEDIA_TYPE:
        return tensors.encode({"scores": scores.astype(np.float32)}, made_by.model_dump())
    return _json(ScoreReply(**made_by.model_dump(), scores=scores.tolist()))


def write_encode(states: Floats, made_by: Provenance, media: str) -> bytes:
    """The reply to `/encode`."""
    if media == tensors.MEDIA_TYPE:
        return tensors.encode({"states": states.astype(np.float32)}, made_by.model_dump())
    return _json(EncodeReply(**made_by.model_dump(), states=states.tolist()))


def write_encode_gradient(
    call: EncodeCall, entities: Floats, relations: Floats, made_by: Provenance, media: str
) -> bytes:
    """The reply to `/encode/gradient`, in the shapes of the vectors that were sent."""
    pairs = {"entities": (call.entities, entities), "relations": (call.relations, relations)}
    if media == tensors.MEDIA_TYPE:
        sent = {
            name: gradient.astype(np.float32).reshape(len(slots), -1, gradient.shape[1])
            for name, (slots, gradient) in pairs.items()
            if len(gradient)
        }
        return tensors.encode(sent, made_by.model_dump())
    lists = {
        name: [part.tolist() for part in np.split(gradient, slots.starts[1:])]
        for name, (slots, gradient) in pairs.items()
    }
    return _json(EncodeGradientReply(**made_by.model_dump(), **lists))


def _json(reply: BaseModel) -> bytes:
    return reply.model_dump_json().encode()


def _by_itself(specs: Mapping[str, tensors.TensorSpec]) -> dict[str, tensors.TensorSpec]:
    """The layouts with a hidden size for each tensor: `check_size` refuses a wrong one in words that help more."""
    return {
        name: replace(spec, shape=tuple(f"hidden of {name}" if size == "hidden" else size for size in spec.shape))
        for name, spec in specs.items()
    }


def _header(model: type[Header], message: Mapping[str, object]) -> Header:
    try:
        return model.model_validate(message)
    except ValidationError as error:
        raise InvalidRequest.from_validation(error, "message") from error


def _text(words: Text) -> str | None:
    """Name, then description."""
    return " ".join(part for part in (words.name, words.description) if part is not None) or None


def _named(request: ScoreRequest, hidden: int) -> ScoreCall:
    """The short form: every distinct name is one row."""
    if request.entities or request.relations:
        raise InvalidRequest.of(
            "triples", "names its entities itself; leave out `entities` and `relations`, or use indices"
        )
    triples = [triple for triple in request.triples if isinstance(triple, NamedTriple)]
    entities = {name: row for row, name in enumerate(dict.fromkeys(n for t in triples for n in (t.head, t.tail)))}
    relations = {name: row for row, name in enumerate(dict.fromkeys(t.relation for t in triples))}
    rows = [[entities[t.head], relations[t.relation], entities[t.tail]] for t in triples]
    return ScoreCall(
        _json_slots("entities", [Slot(name=name) for name in entities], hidden),
        _json_slots("relations", [Slot(name=name) for name in relations], hidden),
        np.array(rows, dtype=np.int64),
        request.template,
    )


def _json_encode(request: EncodeRequest, hidden: int) -> EncodeCall:
    sides = request.sides if request.sides is not None else [0] * len(request.queries)
    if len(sides) != len(request.queries):
        raise InvalidRequest.of("sides", f"holds {len(sides)} sides for {len(request.queries)} queries")
    return EncodeCall(
        _json_slots("entities", request.entities, hidden),
        _json_slots("relations", request.relations, hidden),
        _integers("queries", request.queries, 2),
        np.array(sides, dtype=np.int64),
    )


def _tensor_encode(found: Mapping[str, tensors.Array], header: EncodeHeader, hidden: int) -> EncodeCall:
    queries = found["queries"].astype(np.int64)
    sides = found["sides"].astype(np.int64) if "sides" in found else np.zeros(len(queries), dtype=np.int64)
    return EncodeCall(
        _tensor_slots("entities", found, header.entity_texts, hidden),
        _tensor_slots("relations", found, header.relation_texts, hidden),
        queries,
        sides,
    )


def _json_slots(field: str, slots: Sequence[Slot], hidden: int) -> Slots:
    each = [slot.vectors or [] for slot in slots]
    fields = [f"{field}.{row}.vectors" for row, vectors in enumerate(each) for _ in vectors]
    counts = np.array([len(vectors) for vectors in each], dtype=np.int64)
    texts = {row: text for row, slot in enumerate(slots) if (text := _text(slot)) is not None}
    vectors = finite([vector for vectors in each for vector in vectors], fields, hidden)
    return Slots(vectors, np.cumsum(counts) - counts, counts, texts)


def _tensor_slots(field: str, found: Mapping[str, tensors.Array], texts: Mapping[int, RowText], hidden: int) -> Slots:
    """Rows of vectors and texts; without a tensor, the texts are numbered from 0 on without a gap."""
    blocks = found.get(field)
    if blocks is None:
        blocks = np.zeros((len(texts), 0, hidden), dtype=np.float32)
    check_size(field, blocks, hidden)
    rows, each = blocks.shape[:2]
    counts = np.full(rows, each, dtype=np.int64)
    said = {}
    for row, words in texts.items():
        place = f"message.{'entity' if field == 'entities' else 'relation'}_texts.{row}"
        if row >= rows:
            raise InvalidRequest.of(place, f"there is no such row; {field} has {rows}")
        if words.text_only:
            counts[row] = 0
        if (text := _text(words)) is not None:
            said[row] = text
    return Slots(blocks.reshape(rows * each, hidden), np.arange(rows) * each, counts, said)


def _integers(field: str, rows: Sequence[object], width: int) -> Ints:
    try:
        return np.array(rows, dtype=np.int64).reshape(len(rows), width)
    except OverflowError as error:
        raise InvalidRequest.of(field, "holds an index that is out of range") from error
