"""From bodies to calls and from results to bodies, in both forms: JSON for people, safetensors for programs.

A reply has the form of its request. `slots` reads what all requests share.
"""

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
from pydantic import BaseModel, ValidationError

from protocol import tensors
from protocol.encoding import (
    ENCODE_GRADIENT_TENSORS,
    ENCODE_TENSORS,
    EncodeGradientHeader,
    EncodeGradientReply,
    EncodeGradientRequest,
    EncodeHeader,
    EncodeReply,
    EncodeRequest,
)
from protocol.messages import HEAD, TAIL, Provenance, Slot
from protocol.problems import InvalidRequest
from protocol.ranking import RANK_TENSORS, RankHeader, RankReply, RankRequest, RankResult
from protocol.scoring import (
    SCORE_GRADIENT_TENSORS,
    SCORE_TENSORS,
    NamedTriple,
    ScoreGradientHeader,
    ScoreGradientReply,
    ScoreGradientRequest,
    ScoreHeader,
    ScoreReply,
    ScoreRequest,
    check_gradient,
)
from services.scorer.ranks import Ranked
from services.scorer.requests import (
    EncodeCall,
    Floats,
    Ints,
    RankCall,
    ScoreCall,
    ScoreGradient,
    Slots,
    as_float32,
    check_size,
    finite,
)
from services.scorer.results import Gradients, Scores, States
from services.scorer.slots import by_itself, integers, json_slots, spelled, tensor_slots
from services.web import parse_json

Header = TypeVar("Header", bound=BaseModel)


def read_score(body: bytes, media: str, hidden: int | None) -> ScoreCall:
    """The call of a `/score` body; `hidden` is None where the model takes no vectors.

    Raises:
        InvalidRequest: A field is missing, malformed or out of range; it is named. So do its neighbours.
    """
    if media == tensors.MEDIA_TYPE:
        found, message = tensors.decode(body, by_itself(SCORE_TENSORS))
        return _tensor_score(found, _header(ScoreHeader, message), hidden)
    return _json_score(parse_json(ScoreRequest, body), hidden)


def read_score_gradient(body: bytes, media: str, hidden: int | None) -> tuple[ScoreCall, ScoreGradient]:
    """The call of a `/score/gradient` body, and where its gradient comes from."""
    if media == tensors.MEDIA_TYPE:
        found, message = tensors.decode(body, by_itself(SCORE_GRADIENT_TENSORS))
        header = _header(ScoreGradientHeader, message)
        given = {name: found.get(name) for name in ("grad_scores", "groups", "labels")}
        try:
            check_gradient(header.loss, header.readout, {name for name, part in given.items() if part is not None})
        except ValueError as error:
            raise InvalidRequest.of("body", str(error)) from error
        labels, groups = given["labels"], given["groups"]
        if labels is not None:
            _refuse_where((labels < 0) | (labels > 1), "labels", "is not from 0 to 1")
        if groups is not None:
            _refuse_where(groups < 0, "groups", "is less than 0")
            groups = groups.astype(np.int64)
        gradient = ScoreGradient(given["grad_scores"], header.loss, groups, labels)
        return _tensor_score(found, header, hidden), gradient
    request = parse_json(ScoreGradientRequest, body)
    gradient = ScoreGradient(
        _numbers("grad_scores", request.grad_scores, len(request.triples)),
        request.loss,
        None if request.groups is None else integers("groups", request.groups, 1, len(request.triples))[:, 0],
        _numbers("labels", request.labels, len(request.triples)),
    )
    return _json_score(request, hidden), gradient


def read_rank(body: bytes, media: str, hidden: int | None) -> RankCall:
    """The call of a `/rank` body."""
    if media == tensors.MEDIA_TYPE:
        found, message = tensors.decode(body, by_itself(RANK_TENSORS))
        header = _header(RankHeader, message)
        side = int(found["sides"][0]) if "sides" in found else TAIL
        if side > HEAD:
            raise InvalidRequest.of("sides.0", "is neither 0 (asks for the tail) nor 1 (asks for the head)")
        entities, relations = (tensor_slots(name, found, header, hidden) for name in ("entities", "relations"))
        query, candidates = found["queries"][0].tolist(), found["candidates"].astype(np.int64)
        return _ranked(entities, relations, query, candidates, side, header, "queries.0")
    request = parse_json(RankRequest, body)
    if request.query is not None:
        entities, relations = (json_slots(name, getattr(request, name), hidden) for name in ("entities", "relations"))
        candidates = integers("candidates", request.candidates, 1)[:, 0]
        return _ranked(entities, relations, list(request.query), candidates, request.side, request)
    given = request.head if request.tail is None else request.tail
    names = [given, *map(str, request.candidates)]
    entities = json_slots("entities", [Slot(name=name) for name in names], hidden)
    relations = json_slots("relations", [Slot(name=request.relation)], hidden)
    side = TAIL if request.tail is None else HEAD
    return _ranked(entities, relations, [0, 0], np.arange(1, len(names)), side, request)


def _ranked(
    entities: Slots,
    relations: Slots,
    query: list[int],
    candidates: Ints,
    side: int,
    said: RankRequest | RankHeader,
    field: str = "query",
) -> RankCall:
    columns = [np.full(len(candidates), query[0]), np.full(len(candidates), query[1]), candidates]
    triples = np.stack(columns if side == TAIL else columns[::-1], axis=1)
    call = ScoreCall(entities, relations, triples, said.readout, said.template)
    return RankCall(spelled(call, said.vectors_as), side, said.top_k, field)


def read_encode(body: bytes, media: str, hidden: int | None) -> EncodeCall:
    """The call of an `/encode` body."""
    if media == tensors.MEDIA_TYPE:
        found, message = tensors.decode(body, by_itself(ENCODE_TENSORS))
        return _tensor_encode(found, _header(EncodeHeader, message), hidden)
    return _json_encode(parse_json(EncodeRequest, body), hidden)


def read_encode_gradient(body: bytes, media: str, hidden: int | None) -> tuple[EncodeCall, Floats]:
    """The call of an `/encode/gradient` body, and d(loss)/d(states), float32 [q, hidden]."""
    if media == tensors.MEDIA_TYPE:
        found, message = tensors.decode(body, by_itself(ENCODE_GRADIENT_TENSORS))
        grad_states: Floats = found["grad_states"]
        if hidden is not None:
            check_size("grad_states", grad_states, hidden)
        return _tensor_encode(found, _header(EncodeGradientHeader, message), hidden), grad_states
    request = parse_json(EncodeGradientRequest, body)
    if len(request.grad_states) != len(request.queries):
        raise InvalidRequest.of(
            "grad_states", f"holds {len(request.grad_states)} gradients for {len(request.queries)} queries"
        )
    fields = [f"grad_states.{row}" for row in range(len(request.grad_states))]
    return _json_encode(request, hidden), finite(request.grad_states, fields, hidden)


def write_score(result: Scores, made_by: Provenance, media: str) -> bytes:
    """The reply to `/score`."""
    parts = {"scores": result.scores, "probabilities": result.probabilities, "masses": result.masses}
    if media == tensors.MEDIA_TYPE:
        sent = {name: part.astype(np.float32) for name, part in parts.items() if part is not None}
        return tensors.encode(sent, made_by.model_dump() | ({"reasons": result.reasons} if result.reasons else {}))
    lists = {name: None if part is None else _nullable(part) for name, part in parts.items()}
    return _json(ScoreReply(**made_by.model_dump(), **lists, reasons=result.reasons))


def write_rank(result: Ranked, made_by: Provenance, media: str) -> bytes:
    """The reply to `/rank`."""
    if media == tensors.MEDIA_TYPE:
        sent = {
            "indices": result.indices.astype(np.int32),
            "scores": result.scores.astype(np.float32),
            "ranks": result.ranks.astype(np.float32),
        }
        return tensors.encode(sent, made_by.model_dump() | ({"reasons": result.reasons} if result.reasons else {}))
    columns = result.indices.tolist(), result.scores.tolist(), result.ranks.tolist()
    results = [RankResult(index=i, score=s, rank=r) for i, s, r in zip(*columns, strict=True)]
    return _json(RankReply(**made_by.model_dump(), results=results, reasons=result.reasons))


def write_encode(result: States, made_by: Provenance, media: str) -> bytes:
    """The reply to `/encode`."""
    if media == tensors.MEDIA_TYPE:
        return tensors.encode({"states": result.states.astype(np.float32)}, made_by.model_dump())
    return _json(EncodeReply(**made_by.model_dump(), states=result.states.tolist()))


def write_gradient(call: ScoreCall | EncodeCall, result: Gradients, made_by: Provenance, media: str) -> bytes:
    """The reply to `/score/gradient` and `/encode/gradient`, in the shapes of the vectors that were sent."""
    pairs = {"entities": (call.entities, result.entities), "relations": (call.relations, result.relations)}
    said = made_by.model_dump()
    if media == tensors.MEDIA_TYPE:
        sent = {
            name: gradient.astype(np.float32).reshape(len(slots), -1, gradient.shape[1])
            for name, (slots, gradient) in pairs.items()
            if len(gradient)
        }
        if result.scores is None:
            return tensors.encode(sent, said)
        loss = {} if result.loss is None else {"loss": result.loss}
        return tensors.encode(sent | {"scores": result.scores.astype(np.float32)}, said | loss)
    lists: dict[str, Any] = {
        name: [part.tolist() for part in np.split(gradient, slots.starts[1:])]
        for name, (slots, gradient) in pairs.items()
    }
    if result.scores is None:
        return _json(EncodeGradientReply(**said, **lists))
    return _json(ScoreGradientReply(**said, **lists, scores=result.scores.tolist(), loss=result.loss))


def _json(reply: BaseModel) -> bytes:
    return reply.model_dump_json(exclude_defaults=True).encode()


def _nullable(numbers: Floats) -> list[float | None]:
    """Numbers as JSON has them: null for NaN."""
    return [None if number != number else number for number in numbers.tolist()]


def _header(model: type[Header], message: Mapping[str, object]) -> Header:
    try:
        return model.model_validate(message)
    except ValidationError as error:
        raise InvalidRequest.from_validation(error, "message") from error


def _refuse_where(wrong: tensors.Array, field: str, why: str) -> None:
    if (places := np.flatnonzero(wrong)).size:
        raise InvalidRequest.of(f"{field}.{places[0]}", why)


def _numbers(field: str, numbers: Sequence[float] | None, count: int) -> Floats | None:
    if numbers is None:
        return None
    if len(numbers) != count:
        raise InvalidRequest.of(field, f"holds {len(numbers)} numbers for {count} triples")
    return as_float32(np.array(numbers, dtype=np.float64), [f"{field}.{place}" for place in range(count)])


def _json_score(request: ScoreRequest, hidden: int | None) -> ScoreCall:
    entities, relations = request.entities, request.relations
    if isinstance(request.triples[0], NamedTriple):
        entities, relations, triples = _named(request)
    else:
        triples = integers("triples", request.triples, 3)
    call = ScoreCall(
        json_slots("entities", entities, hidden),
        json_slots("relations", relations, hidden),
        triples,
        request.readout,
        request.template,
        request.keep,
    )
    return spelled(call, request.vectors_as)


def _named(request: ScoreRequest) -> tuple[list[Slot], list[Slot], Any]:
    """The short form: every distinct name is one row."""
    if request.entities or request.relations:
        raise InvalidRequest.of(
            "triples", "names its entities itself; leave out `entities` and `relations`, or use indices"
        )
    triples = [triple for triple in request.triples if isinstance(triple, NamedTriple)]
    entities = {name: row for row, name in enumerate(dict.fromkeys(n for t in triples for n in (t.head, t.tail)))}
    relations = {name: row for row, name in enumerate(dict.fromkeys(t.relation for t in triples))}
    rows = [[entities[t.head], relations[t.relation], entities[t.tail]] for t in triples]
    slots = [[Slot(name=name) for name in names] for names in (entities, relations)]
    return slots[0], slots[1], np.array(rows, dtype=np.int64)


def _tensor_score(found: Mapping[str, tensors.Array], header: ScoreHeader, hidden: int | None) -> ScoreCall:
    call = ScoreCall(
        tensor_slots("entities", found, header, hidden),
        tensor_slots("relations", found, header, hidden),
        found["triples"].astype(np.int64),
        header.readout,
        header.template,
        header.keep,
    )
    return spelled(call, header.vectors_as)


def _json_encode(request: EncodeRequest, hidden: int | None) -> EncodeCall:
    sides = request.sides if request.sides is not None else [0] * len(request.queries)
    if len(sides) != len(request.queries):
        raise InvalidRequest.of("sides", f"holds {len(sides)} sides for {len(request.queries)} queries")
    call = EncodeCall(
        json_slots("entities", request.entities, hidden),
        json_slots("relations", request.relations, hidden),
        integers("queries", request.queries, 2),
        np.array(sides, dtype=np.int64),
        request.layer,
        request.templates,
        request.keep,
    )
    return spelled(call, request.vectors_as)


def _tensor_encode(found: Mapping[str, tensors.Array], header: EncodeHeader, hidden: int | None) -> EncodeCall:
    queries = found["queries"].astype(np.int64)
    sides = found["sides"].astype(np.int64) if "sides" in found else np.zeros(len(queries), dtype=np.int64)
    call = EncodeCall(
        tensor_slots("entities", found, header, hidden),
        tensor_slots("relations", found, header, hidden),
        queries,
        sides,
        header.layer,
        header.templates,
        header.keep,
    )
    return spelled(call, header.vectors_as)
