"""What is refused, by field, in both forms. Nothing that a caller sends is answered 500."""

import json
from functools import lru_cache
from typing import Any

import httpx
import numpy as np
import pytest

from protocol import problems
from services.scorer.app import create_app
from services.scorer.settings import Settings

from .requests import (
    HIDDEN,
    JSON,
    QUERY,
    SHORT,
    ST,
    TRIPLES,
    Call,
    encode_call,
    rank_call,
    score_call,
    vectors,
)
from .serving import Process


@lru_cache
def declared(path: str) -> set[str]:
    """The statuses of a route on the API page."""
    return set(create_app(Settings(model="random")).openapi()["paths"][path]["post"]["responses"])


def refused(reply: httpx.Response, kind: type[problems.ProblemError], *words: str) -> problems.Problem:
    assert reply.status_code == kind.status, reply.text
    assert reply.headers["content-type"] == problems.MEDIA_TYPE
    document = problems.Problem.model_validate_json(reply.content)
    assert document.type.endswith(kind.kind)
    for word in words:
        assert word in document.detail
    if kind not in (problems.NotFound, problems.MethodNotAllowed):
        assert str(kind.status) in declared(reply.request.url.path)
    return document


NAMED = {"relation": "r", "head": "a", "candidates": ["b", "c"]}
TRIPLE = {"entities": [{"name": "a"}], "relations": [{"name": "r"}], "triples": [[0, 0, 0]]}
RANK = {"entities": [{"name": "a"}], "relations": [{"name": "r"}], "query": [0, 0], "candidates": [0]}
PAIR = {"triples": SHORT["triples"] * 2}
GROUPED = PAIR | {"loss": {"name": "cross_entropy"}, "groups": [0, 0]}

JSON_REFUSALS: list[Any] = [
    ("/score", [], "body"),
    ("/score", {}, "triples"),
    ("/score", {"triples": []}, "triples"),
    ("/score", {"triples": ["a"]}, "triples.0"),
    ("/score", {"triples": [{"head": "a", "relation": "b"}]}, "triples.0.tail"),
    ("/score", {"triples": [{"head": "a", "relation": "b", "tail": ""}]}, "triples.0.tail"),
    ("/score", {"triples": [{"head": "a", "relation": "b", "tail": "c" * 1001}]}, "triples.0.tail"),
    ("/score", TRIPLE | {"triples": [[0, 0, 0], [0, "0", 0]]}, "triples.1.1"),
    ("/score", TRIPLE | {"triples": [[0, 0, 0], [0, 0]]}, "triples.1.2"),
    ("/score", TRIPLE | {"triples": [[0, 0, -1]]}, "triples.0.2"),
    ("/score", TRIPLE | {"triples": [[0, 0, 0], *SHORT["triples"]]}, "triples"),
    ("/score", TRIPLE | {"triples": [[0, 0, 0], [0, 0, 1]]}, "triples.1"),
    ("/score", TRIPLE | {"triples": [[0, 1, 0]]}, "triples.0"),
    ("/score", TRIPLE | {"triples": [[0, 0, 10**30]]}, "triples"),
    ("/score", SHORT | {"entities": [{"name": "a"}]}, "triples"),
    ("/score", SHORT | {"misspelt": 1}, "misspelt"),
    ("/score", SHORT | {"readout": "state"}, "readout"),
    ("/score", SHORT | {"vectors_as": "words"}, "vectors_as"),
    ("/score", SHORT | {"keep": "perhaps"}, "keep"),
    ("/score", SHORT | {"template": "none"}, "template"),
    ("/score", SHORT | {"template": "number"}, "template"),
    ("/score", SHORT | {"template": "triple", "readout": "likelihood"}, "template"),
    ("/score", SHORT | {"readout": "likelihood", "keep": True}, "keep"),
    (
        "/score",
        TRIPLE | {"entities": [{"name": "a", "vectors": [[0.5] * HIDDEN]}], "readout": "likelihood"},
        "entities.0",
    ),
    ("/score", TRIPLE | {"entities": [{"name": "  "}]}, "entities.0"),
    ("/score", TRIPLE | {"relations": [{}]}, "relations.0"),
    ("/score", TRIPLE | {"relations": [{"name": "r", "nam": "s"}]}, "relations.0.nam"),
    ("/score", TRIPLE | {"relations": [{"vectors": []}]}, "relations.0.vectors"),
    ("/score", TRIPLE | {"relations": [{"vectors": [[]]}]}, "relations.0.vectors"),
    ("/score", TRIPLE | {"relations": [{"vectors": [[0.5] * HIDDEN, [0.5] * 7]}]}, "relations.0.vectors"),
    ("/score", TRIPLE | {"relations": [{"vectors": [["0.5"] * HIDDEN]}]}, "relations.0.vectors.0.0"),
    ("/score", TRIPLE | {"relations": [{"vectors": [[1e300] * HIDDEN]}]}, "relations.0.vectors"),
    ("/score", TRIPLE | {"relations": [{"vectors": [[[0.5] * HIDDEN]]}]}, "relations.0.vectors.0.0"),
    ("/score/gradient", SHORT, "body"),
    ("/score/gradient", SHORT | {"grad_scores": []}, "grad_scores"),
    ("/score/gradient", SHORT | {"grad_scores": [1.0, 2.0]}, "grad_scores"),
    ("/score/gradient", SHORT | {"grad_scores": [1e300]}, "grad_scores.0"),
    ("/score/gradient", SHORT | {"grad_scores": [None]}, "grad_scores.0"),
    ("/score/gradient", SHORT | {"grad_scores": [1.0], "groups": [0]}, "body"),
    ("/score/gradient", SHORT | {"grad_scores": [1.0], "labels": [1.0]}, "body"),
    ("/score/gradient", SHORT | {"grad_scores": [1.0], "loss": {"name": "cross_entropy"}}, "body"),
    ("/score/gradient", SHORT | {"grad_scores": [1.0], "readout": "likelihood"}, "readout"),
    ("/score/gradient", SHORT | {"grad_scores": [1.0], "vectors_as": "numbers"}, "vectors_as"),
    ("/score/gradient", GROUPED | {"groups": None}, "body"),
    ("/score/gradient", GROUPED | {"labels": [1.0, 0.0]}, "body"),
    ("/score/gradient", GROUPED | {"loss": {"name": "hinge"}}, "loss.name"),
    ("/score/gradient", GROUPED | {"loss": {"name": "margin_ranking", "margin": -1}}, "loss.margin"),
    ("/score/gradient", GROUPED | {"loss": {"name": "margin_ranking", "gamma": 1}}, "loss.gamma"),
    ("/score/gradient", GROUPED | {"groups": [0, 1]}, "groups"),
    ("/score/gradient", GROUPED | {"groups": [0]}, "groups"),
    ("/score/gradient", GROUPED | {"groups": [0, -1]}, "groups.1"),
    ("/score/gradient", GROUPED | {"groups": [0, 10**30]}, "groups"),
    ("/score/gradient", GROUPED | {"groups": [0, 0.5]}, "groups.1"),
    ("/score/gradient", PAIR | {"loss": {"name": "margin_ranking"}, "labels": [1.0, 0.0]}, "body"),
    ("/score/gradient", PAIR | {"loss": {"name": "self_adversarial"}, "labels": [1.0, 0.0]}, "body"),
    ("/score/gradient", PAIR | {"loss": {"name": "cross_entropy"}, "labels": [1.0, 1.5]}, "labels.1"),
    ("/score/gradient", PAIR | {"loss": {"name": "cross_entropy"}, "labels": [1.0]}, "labels"),
    (
        "/score/gradient",
        PAIR | {"loss": {"name": "cross_entropy"}, "labels": [1.0, 0.0], "readout": "number"},
        "body",
    ),
    ("/rank", {"candidates": ["a"]}, "body"),
    ("/rank", NAMED | {"candidates": []}, "candidates"),
    ("/rank", NAMED | {"candidates": ["b", ""]}, "candidates.1"),
    ("/rank", NAMED | {"candidates": ["b", 1]}, "candidates.1"),
    ("/rank", NAMED | {"candidates": [0]}, "body"),
    ("/rank", NAMED | {"tail": "b"}, "body"),
    ("/rank", NAMED | {"side": 1}, "body"),
    ("/rank", NAMED | {"query": [0, 0]}, "body"),
    ("/rank", NAMED | {"entities": [{"name": "a"}]}, "body"),
    ("/rank", NAMED | {"top_k": 0}, "top_k"),
    ("/rank", NAMED | {"template": "tail"}, "template"),
    ("/rank", RANK | {"candidates": ["a"]}, "body"),
    ("/rank", RANK | {"candidates": []}, "candidates"),
    ("/rank", RANK | {"candidates": [0, 1]}, "candidates.1"),
    ("/rank", RANK | {"candidates": [0, 1], "side": 1}, "candidates.1"),
    ("/rank", RANK | {"candidates": [0, -1]}, "candidates.1"),
    ("/rank", RANK | {"candidates": [10**30]}, "candidates"),
    ("/rank", RANK | {"query": [1, 0]}, "query"),
    ("/rank", RANK | {"query": [1, 0], "side": 1}, "query"),
    ("/rank", RANK | {"query": [0, 1]}, "query"),
    ("/rank", RANK | {"query": [0, 10**30]}, "query"),
    ("/rank", RANK | {"side": 2}, "side"),
    ("/encode", {**QUERY, "queries": []}, "queries"),
    ("/encode", {**QUERY, "queries": [[0, 0], [0, 1]]}, "queries.1"),
    ("/encode", {**QUERY, "queries": [[10**30, 0]]}, "queries"),
    ("/encode", {**QUERY, "entities": []}, "entities"),
    ("/encode", {**QUERY, "sides": [0, 1]}, "sides"),
    ("/encode", {**QUERY, "sides": [2]}, "sides.0"),
    ("/encode", {**QUERY, "entities": [{"name": "a"}, {}]}, "entities.1"),
    ("/encode", {**QUERY, "entities": [{"name": "a"}, {"vectors": [[0.5] * 7]}]}, "entities.1.vectors"),
    ("/encode", {**QUERY, "layer": "first"}, "layer"),
    ("/encode", {**QUERY, "layer": 0}, "layer"),
    ("/encode", {**QUERY, "layer": 1.5}, "layer"),
    ("/encode", {**QUERY, "layer": 99}, "layer"),
    ("/encode", {**QUERY, "readout": "verdict"}, "readout"),
    ("/encode", {**QUERY, "templates": ["tail"]}, "templates.1"),
    ("/encode", {**QUERY, "templates": ["none", "head"]}, "templates.0"),
    ("/encode", {**QUERY, "templates": ["head", "head"]}, "templates.0"),
    ("/encode", {**QUERY, "templates": ["tail", "triple"], "sides": [1]}, "templates.1"),
    ("/encode/gradient", QUERY, "grad_states"),
    ("/encode/gradient", {**QUERY, "grad_states": []}, "grad_states"),
    ("/encode/gradient", {**QUERY, "grad_states": [[1.0]]}, "grad_states.0"),
    ("/encode/gradient", {**QUERY, "grad_states": [[1e300] * HIDDEN]}, "grad_states.0"),
    ("/encode/gradient", {**QUERY, "grad_states": [[1.0] * HIDDEN], "vectors_as": "numbers"}, "vectors_as"),
]


@pytest.mark.parametrize(("path", "body", "field"), JSON_REFUSALS)
def test_a_json_request_is_refused_by_field(client: Process, path: str, body: Any, field: str) -> None:
    document = refused(client.post(path, json=body), problems.InvalidRequest)
    assert document.errors[0].field == field
    assert document.errors[0].message


@pytest.mark.parametrize("literal", ["NaN", "Infinity", "-Infinity", "1e400"])
@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("/encode", {**QUERY, "entities": [{"vectors": [["?", *[0.5] * (HIDDEN - 1)]]}]}, "entities.0.vectors"),
        ("/encode/gradient", {**QUERY, "grad_states": [["?", *[0.5] * (HIDDEN - 1)]]}, "grad_states.0"),
        ("/score/gradient", SHORT | {"grad_scores": ["?"]}, "grad_scores.0"),
        ("/score/gradient", PAIR | {"loss": {"name": "cross_entropy"}, "labels": [1.0, "?"]}, "labels.1"),
        ("/score/gradient", GROUPED | {"loss": {"name": "margin_ranking", "margin": "?"}}, "loss.margin"),
    ],
)
def test_json_literals_that_are_no_finite_numbers_are_refused(
    client: Process, path: str, body: Any, field: str, literal: str
) -> None:
    reply = client.post(path, content=json.dumps(body).replace('"?"', literal), headers=JSON)
    assert refused(reply, problems.InvalidRequest).errors[0].field == field


@pytest.mark.parametrize("body", [b"", b"{", b"[" * 100_000, b'{"triples": "\xff"}', b"\xef\xbb\xbf{}", b"null", b"3"])
@pytest.mark.parametrize("path", ["/score", "/score/gradient", "/rank", "/encode", "/encode/gradient"])
def test_what_is_no_json_object_is_refused(client: Process, path: str, body: bytes) -> None:
    assert refused(client.post(path, content=body, headers=JSON), problems.InvalidRequest).errors


def test_half_a_surrogate_pair_is_refused_and_echoed(client: Process) -> None:
    reply = client.post("/score", content=b'{"\\ud800": 1, "triples": [["\\udfff", 0, 0]]}', headers=JSON)
    refused(reply, problems.InvalidRequest)


SCORE, RANKED, ENCODED = score_call(), rank_call(), encode_call()
GRADIENT = score_call(path="/score/gradient")
GIVEN = vectors(len(TRIPLES))
STATES = encode_call(path="/encode/gradient", grad_states=vectors(4, HIDDEN))
GROUPS = np.array([0, 0, 1, 1, 1], dtype="i4")
LOSS = {"loss": {"name": "cross_entropy"}}

TENSOR_REFUSALS: list[Any] = [
    (SCORE, {"triples": None}, {}, "triples"),
    (SCORE, {"triples": TRIPLES.astype("i8")}, {}, "triples"),
    (SCORE, {"triples": TRIPLES[:, :2].copy()}, {}, "triples"),
    (SCORE, {"triples": TRIPLES[:0]}, {}, "triples"),
    (SCORE, {"triples": np.array([[0, 0, 1], [0, 0, 4]], dtype="i4")}, {}, "triples.1"),
    (SCORE, {"triples": np.array([[0, 2, 1]], dtype="i4")}, {}, "triples.0"),
    (SCORE, {"triples": np.array([[0, 0, -1]], dtype="i4")}, {}, "triples.0"),
    (SCORE, {"entities": vectors(4, 2, 64)}, {}, "entities"),
    (SCORE, {"relations": vectors(2, 1, 64)}, {}, "relations"),
    (SCORE, {"entities": vectors(4, 2, HIDDEN).astype("f8")}, {}, "entities"),
    (SCORE, {"entities": vectors(4, 0, HIDDEN)}, {}, "entities"),
    (SCORE, {"entities": vectors(4, HIDDEN)}, {}, "entities"),
    (SCORE, {"entities": np.full((4, 1, HIDDEN), np.nan, dtype="f4")}, {}, "entities"),
    (SCORE, {"relations": np.full((2, 1, HIDDEN), np.inf, dtype="f4")}, {}, "relations"),
    (SCORE, {"strange": GIVEN}, {}, "strange"),
    (SCORE, {"grad_scores": GIVEN}, {}, "grad_scores"),
    (SCORE, {"entities": None}, {"entity_texts": {"0": {"name": "a"}, "2": {"name": "b"}}}, "message.entity_texts.2"),
    (SCORE, {"relations": None}, {"relation_texts": {}}, "triples.0"),
    (SCORE, {}, {"entity_texts": {"4": {"name": "x"}}}, "message.entity_texts.4"),
    (SCORE, {}, {"entity_texts": {"-1": {"name": "x"}}}, "message.entity_texts.-1.[key]"),
    (SCORE, {}, {"entity_texts": {"0": {"nam": "x"}}}, "message.entity_texts.0.nam"),
    (SCORE, {}, {"entity_texts": {"0": {"text_only": True}}}, "entities.0"),
    (SCORE, {}, {"relation_texts": {"0": {"name": " ", "text_only": True}}}, "relations.0"),
    (SCORE, {}, {"entity_texts": []}, "message.entity_texts"),
    (SCORE, {}, {"readout": "state"}, "message.readout"),
    (SCORE, {}, {"template": "none"}, "template"),
    (SCORE, {}, {"readout": "likelihood"}, "entities.0"),
    (SCORE, {}, {"readout": "likelihood", "keep": True}, "keep"),
    (SCORE, {}, {"loss": {"name": "cross_entropy"}}, "message.loss"),
    (SCORE, {}, {"misspelt": 1}, "message.misspelt"),
    (GRADIENT, {}, {}, "body"),
    (GRADIENT, {"grad_scores": GIVEN[:2]}, {}, "grad_scores"),
    (GRADIENT, {"grad_scores": GIVEN.astype("f2")}, {}, "grad_scores"),
    (GRADIENT, {"grad_scores": np.full(5, np.nan, dtype="f4")}, {}, "grad_scores"),
    (GRADIENT, {"grad_scores": GIVEN, "groups": GROUPS}, {}, "body"),
    (GRADIENT, {"grad_scores": GIVEN}, LOSS, "body"),
    (GRADIENT, {"grad_scores": GIVEN}, {"readout": "likelihood"}, "message.readout"),
    (GRADIENT, {"grad_scores": GIVEN}, {"vectors_as": "numbers"}, "message.vectors_as"),
    (GRADIENT, {"groups": GROUPS}, {}, "body"),
    (GRADIENT, {}, LOSS, "body"),
    (GRADIENT, {"groups": GROUPS, "labels": np.ones(5, "f4")}, LOSS, "body"),
    (GRADIENT, {"groups": GROUPS}, {"loss": {"name": "hinge"}}, "message.loss.name"),
    (GRADIENT, {"groups": np.arange(5, dtype="i4")}, LOSS, "groups"),
    (GRADIENT, {"groups": GROUPS[:4]}, LOSS, "groups"),
    (GRADIENT, {"groups": np.array([0, 0, 1, -1, -1], dtype="i4")}, LOSS, "groups.3"),
    (GRADIENT, {"groups": GROUPS.astype("f4")}, LOSS, "groups"),
    (GRADIENT, {"labels": np.full(5, 1.5, "f4")}, LOSS, "labels.0"),
    (GRADIENT, {"labels": np.array([0, 1, 0, -0.5, 1], "f4")}, LOSS, "labels.3"),
    (GRADIENT, {"labels": np.ones(5, "f4")}, {**LOSS, "readout": "number"}, "body"),
    (GRADIENT, {"labels": np.ones(5, "f4")}, {"loss": {"name": "margin_ranking"}}, "body"),
    (RANKED, {"candidates": np.zeros(0, "i4")}, {}, "candidates"),
    (RANKED, {"candidates": np.array([0, 4], "i4")}, {}, "candidates.1"),
    (RANKED, {"candidates": np.array([0, -1], "i4")}, {}, "candidates.1"),
    (RANKED, {"candidates": None}, {}, "candidates"),
    (RANKED, {"queries": np.array([[4, 0]], "i4")}, {}, "queries.0"),
    (RANKED, {"queries": np.array([[0, 2]], "i4")}, {}, "queries.0"),
    (RANKED, {"queries": np.zeros((2, 2), "i4")}, {}, "queries"),
    (RANKED, {"sides": np.array([2], "u1")}, {}, "sides.0"),
    (RANKED, {}, {"top_k": 0}, "message.top_k"),
    (RANKED, {}, {"template": "tail"}, "template"),
    (RANKED, {}, {"keep": True}, "message.keep"),
    (ENCODED, {"queries": np.array([[4, 0]], "i4"), "sides": None}, {}, "queries.0"),
    (ENCODED, {"queries": np.array([[0, -1]], "i4"), "sides": None}, {}, "queries.0"),
    (ENCODED, {"queries": np.zeros((0, 2), "i4"), "sides": None}, {}, "queries"),
    (ENCODED, {"queries": np.zeros((4, 2), "i8")}, {}, "queries"),
    (ENCODED, {"sides": np.array([0, 2, 1, 0], "u1")}, {}, "sides.1"),
    (ENCODED, {"sides": np.zeros(2, "u1")}, {}, "sides"),
    (ENCODED, {}, {"readout": "verdict"}, "message.readout"),
    (ENCODED, {}, {"layer": 0}, "message.layer"),
    (ENCODED, {}, {"layer": 99}, "layer"),
    (ENCODED, {}, {"templates": ["head", "head"]}, "templates.0"),
    (STATES, {"grad_states": None}, {}, "grad_states"),
    (STATES, {"grad_states": vectors(3, HIDDEN)}, {}, "grad_states"),
    (STATES, {"grad_states": vectors(4, 64)}, {}, "grad_states"),
    (STATES, {"grad_states": np.full((4, HIDDEN), np.inf, "f4")}, {}, "grad_states"),
    (STATES, {}, {"vectors_as": "numbers"}, "message.vectors_as"),
]


@pytest.mark.parametrize(("call", "arrays", "says", "field"), TENSOR_REFUSALS, ids=lambda part: str(part)[:50])
def test_a_tensor_request_is_refused_by_field(client: Process, call: Call, arrays: Any, says: Any, field: str) -> None:
    reply = client.post(call.path, content=call.but(says, **arrays), headers=ST)
    document = refused(reply, problems.InvalidRequest)
    assert document.errors[0].field == field
    assert document.errors[0].message


def test_a_wrong_hidden_size_names_both(client: Process) -> None:
    for name in ("entities", "relations"):
        reply = client.post("/encode", content=ENCODED.but(**{name: vectors(4, 1, 64)}), headers=ST)
        refused(reply, problems.InvalidRequest, "64", "128", "/info")


def test_a_template_that_is_not_there_tells_which_are(client: Process) -> None:
    refused(client.post("/score", json=SHORT | {"template": "none"}), problems.InvalidRequest, "triple", "short")


@pytest.mark.parametrize(
    ("call", "arrays", "limit"),
    [
        (ENCODED, {"queries": np.zeros((601, 2), dtype="i4"), "sides": None}, "max_prompts"),
        (SCORE, {"triples": np.zeros((601, 3), dtype="i4")}, "max_prompts"),
        (RANKED, {"candidates": np.zeros(601, dtype="i4")}, "max_prompts"),
        (ENCODED, {"entities": vectors(51, 1, HIDDEN)}, "max_slots"),
        (SCORE, {"relations": vectors(51, 1, HIDDEN)}, "max_slots"),
        (RANKED, {"entities": vectors(4, 9, HIDDEN)}, "max_vectors_per_slot"),
        (ENCODED, {"relations": vectors(2, 9, HIDDEN)}, "max_vectors_per_slot"),
        (SCORE, {"triples": np.zeros((600, 3), dtype="i4")}, "max_call_tokens"),
    ],
)
def test_a_batch_over_a_limit_names_it(client: Process, call: Call, arrays: Any, limit: str) -> None:
    reply = client.post(call.path, content=call.but(**arrays), headers=ST)
    document = refused(reply, problems.BodyTooLarge, limit, "GET /info")
    assert document.model_extra is not None
    assert document.model_extra["name"] == limit
    assert document.model_extra["limit"] == client.get("/info").json()["limits"][limit]


def test_a_long_text_is_over_the_limit_of_tokens(client: Process) -> None:
    for path, body in (
        ("/encode", QUERY | {"entities": [{"name": "a" * 400}]}),
        ("/rank", NAMED | {"candidates": ["a" * 400]}),
        ("/rank", NAMED | {"candidates": ["b", "a" * 400], "readout": "likelihood"}),
    ):
        refused(client.post(path, json=body), problems.BodyTooLarge, "max_prompt_tokens is 300")


def test_routes_and_methods_that_are_not_there(client: Process) -> None:
    refused(client.get("/nothing"), problems.NotFound, "/nothing")
    refused(client.get("/%ed%a0%80"), problems.NotFound)
    refused(client.get("/score"), problems.MethodNotAllowed, "GET")
    refused(client.post("/health"), problems.MethodNotAllowed, "POST")


@pytest.mark.parametrize(
    "media", [None, "text/plain", "application/x-pickle", "application/json2", "multipart/form-data"]
)
def test_a_media_type_that_is_not_read_is_refused(client: Process, media: str | None) -> None:
    headers = {"content-type": media} if media else {}
    words = ("application/json", "application/safetensors", media or "absent")
    refused(client.post("/score", content=b"{}", headers=headers), problems.WrongMediaType, *words)


def test_parameters_of_a_media_type_are_no_matter(client: Process) -> None:
    headers = {"content-type": "Application/JSON; charset=utf-8"}
    assert client.post("/score", content=json.dumps(SHORT), headers=headers).status_code == 200


def test_after_all_this_the_scorer_answers(client: Process) -> None:
    assert client.get("/ready").status_code == 200
    assert client.post("/score", json=SHORT).status_code == 200
