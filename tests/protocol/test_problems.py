import json

import pytest
from pydantic import BaseModel, Field, ValidationError

from protocol.encoding import EncodeHeader
from protocol.problems import (
    KINDS,
    Busy,
    FieldError,
    InvalidRequest,
    Problem,
    ProblemError,
    Unauthorized,
    problem_from_response,
)
from protocol.ranking import RankRequest
from protocol.scoring import ScoreRequest

FIXED_STATUSES = {401, 402, 403, 404, 405, 408, 409, 413, 415, 422, 424, 429, 503, 507}


def test_every_status_that_the_services_refuse_with_has_its_kind() -> None:
    assert set(KINDS) == FIXED_STATUSES
    assert len({kind.kind for kind in KINDS.values()}) == len(KINDS)


@pytest.mark.parametrize("kind", KINDS.values(), ids=lambda k: k.__name__)
def test_a_problem_crosses_the_wire_as_the_same_exception(kind: type[ProblemError]) -> None:
    sent = kind("what went wrong, and the way out")
    body = sent.document().model_dump_json().encode()
    received = problem_from_response(sent.status, body)
    assert type(received) is kind
    assert received.detail == str(received) == sent.detail
    assert json.loads(body)["type"] == f"/problems/{kind.kind}"
    assert json.loads(body)["status"] == kind.status


def test_fields_at_fault_and_extra_members_cross_the_wire() -> None:
    sent = InvalidRequest("two fields", errors=[FieldError(field="entities.3", message="NaN")], limit=5)
    received = problem_from_response(422, sent.document().model_dump_json().encode())
    assert received.errors == sent.errors
    assert received.extra == {"limit": 5}


def test_how_long_a_busy_service_asked_to_wait_crosses_the_wire() -> None:
    sent = Busy("the queue is full", retry_after=7)
    assert sent.headers == {"Retry-After": "7"}
    received = problem_from_response(429, sent.document().model_dump_json().encode())
    assert isinstance(received, Busy)
    assert received.retry_after == 7


@pytest.mark.parametrize("wait", [-1, "soon", None, [], 10**30, 1e400])
def test_a_senseless_wait_of_a_busy_service_is_not_taken(wait: object) -> None:
    document = {"type": "t", "title": "t", "status": 429, "detail": "full", "retry_after": wait}
    received = problem_from_response(429, json.dumps(document).encode())
    assert isinstance(received, Busy)
    assert 0 <= received.retry_after <= 3600


def test_a_401_names_the_scheme() -> None:
    assert Unauthorized("no token").headers == {"WWW-Authenticate": "Bearer"}


@pytest.mark.parametrize("status", [*KINDS, 500, 502, 599])
@pytest.mark.parametrize("body", [b"", b"<html>Bad gateway</html>", b"[]", b'{"detail": "no title"}', b"\xff\xfe"])
def test_a_refusal_that_is_no_problem_document_keeps_its_status(status: int, body: bytes) -> None:
    received = problem_from_response(status, body)
    assert type(received) is KINDS.get(status, ProblemError)
    assert str(status) in received.detail


def test_members_of_a_strange_document_cannot_clash_with_arguments() -> None:
    document = Problem(type="t", title="t", status=404, detail="gone", self=1, args=2)  # type: ignore[call-arg]  # members that it lacks
    assert problem_from_response(404, document.model_dump_json().encode()).detail == "gone"


def test_text_that_is_no_unicode_still_becomes_a_document() -> None:
    # JSON can spell half a surrogate pair, which UTF-8 cannot; echoing it must not turn a 422 into a 500.
    problem = InvalidRequest.of("\ud800", "unknown tensor")
    assert b"unknown tensor" in problem.document().model_dump_json().encode()


class Inner(BaseModel):
    numbers: list[int]


class Outer(BaseModel):
    name: str = Field(min_length=2)
    inner: Inner


def test_pydantic_refusals_become_fields_with_their_paths() -> None:
    with pytest.raises(ValidationError) as refusal:
        Outer.model_validate({"name": "x", "inner": {"numbers": [1, "two"]}})
    problem = InvalidRequest.from_validation(refusal.value, "message")
    assert [e.field for e in problem.errors] == ["message.name", "message.inner.numbers.1"]
    assert all(e.field in problem.detail for e in problem.errors)
    assert [e.field for e in InvalidRequest.from_validation(refusal.value).errors] == ["name", "inner.numbers.1"]


def test_an_error_of_the_whole_body_is_called_body() -> None:
    with pytest.raises(ValidationError) as refusal:
        Outer.model_validate(3)
    assert [e.field for e in InvalidRequest.from_validation(refusal.value).errors] == ["body"]


@pytest.mark.parametrize(
    ("model", "content", "field"),
    [
        (ScoreRequest, {"triples": [[0, 0, 0], [0, "1", 0]]}, "triples.1.1"),
        (ScoreRequest, {"triples": [{"head": "a", "relation": "b"}]}, "triples.0.tail"),
        (ScoreRequest, {"triples": [3]}, "triples.0"),
        (RankRequest, {"head": "a", "relation": "b", "candidates": ["c", 1]}, "candidates.1"),
        (RankRequest, {"head": "a", "relation": "b", "candidates": 3}, "candidates"),
        (EncodeHeader, {"layer": "first"}, "layer"),
        (EncodeHeader, {"layer": 0}, "layer"),
    ],
)
def test_a_field_of_several_forms_is_called_as_the_sender_calls_it(
    model: type[BaseModel], content: dict[str, object], field: str
) -> None:
    with pytest.raises(ValidationError) as refusal:
        model.model_validate_json(json.dumps(content))
    assert [e.field for e in InvalidRequest.from_validation(refusal.value).errors] == [field]
