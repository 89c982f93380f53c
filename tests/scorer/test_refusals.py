import http.client
import json
import pickle
import struct
from typing import Any

import httpx
import numpy as np
import pytest

from protocol import problems, tensors

from .requests import HIDDEN, QUERY, ST, encode_tensors, vectors


def refused(reply: httpx.Response, kind: type[problems.ProblemError], *words: str) -> problems.Problem:
    assert reply.status_code == kind.status, reply.text
    assert reply.headers["content-type"] == problems.MEDIA_TYPE
    document = problems.Problem.model_validate_json(reply.content)
    assert document.type.endswith(kind.kind)
    for word in words:
        assert word in document.detail
    return document


JSON_REFUSALS: list[Any] = [
    ("/score", {"triples": []}, "triples"),
    ("/encode", {**QUERY, "queries": []}, "queries"),
    ("/encode", {**QUERY, "queries": [[0, 0], [0, 1]]}, "queries.1"),
    ("/encode", {**QUERY, "queries": [[10**30, 0]]}, "queries"),
    ("/encode", {**QUERY, "sides": [0, 1]}, "sides"),
    ("/encode", {**QUERY, "sides": [2]}, "sides.0"),
    ("/encode", {**QUERY, "entities": [{"name": "a"}, {}]}, "entities.1"),
    ("/encode", {**QUERY, "entities": [{"name": "a"}, {"vectors": [[0.5] * 7]}]}, "entities.1.vectors"),
    ("/encode", {**QUERY, "relations": [{"vectors": [[1e300] * HIDDEN]}]}, "relations.0.vectors"),
    ("/encode/gradient", {**QUERY, "grad_states": []}, "grad_states"),
    ("/encode/gradient", {**QUERY, "grad_states": [[1.0]]}, "grad_states.0"),
    ("/score", {"triples": [{"head": "a", "relation": "b", "tail": "c"}], "template": "none"}, "template"),
    ("/score", {"triples": [{"head": "a", "relation": "b", "tail": "c"}], "entities": [{"name": "a"}]}, "triples"),
    ("/score", {"entities": [{"name": "a"}], "triples": [[0, 0, 0]]}, "triples.0"),
    ("/encode", {**QUERY, "misspelt": 1}, "misspelt"),
]


@pytest.mark.parametrize(("path", "body", "field"), JSON_REFUSALS)
def test_a_json_request_is_refused_by_field(client: httpx.Client, path: str, body: dict, field: str) -> None:
    document = refused(client.post(path, json=body), problems.InvalidRequest)
    assert document.errors[0].field == field


@pytest.mark.parametrize("literal", ["NaN", "Infinity", "-Infinity"])
def test_json_literals_that_are_no_numbers_are_refused(client: httpx.Client, literal: str) -> None:
    body = json.dumps(QUERY | {"entities": [{"vectors": [[0.5] * (HIDDEN - 1) + [float(literal)]]}]})
    assert literal in body
    reply = client.post("/encode", content=body, headers={"content-type": "application/json"})
    assert refused(reply, problems.InvalidRequest).errors[0].field == "entities.0.vectors"


def test_a_wrong_hidden_size_names_both(client: httpx.Client) -> None:
    for name in ("entities", "relations"):
        parts = encode_tensors() | {name: vectors(3, 1, 64)}
        reply = client.post("/encode", content=tensors.encode(parts), headers=ST)
        assert refused(reply, problems.InvalidRequest, "64", "128", "/info").errors[0].field == name


BAD_TENSORS: list[Any] = [
    ({"queries": np.array([[3, 0]], dtype="i4"), "sides": np.zeros(1, "u1")}, "queries.0"),
    ({"queries": np.array([[0, -1]], dtype="i4"), "sides": np.zeros(1, "u1")}, "queries.0"),
    ({"queries": np.zeros((0, 2), dtype="i4"), "sides": np.zeros(0, "u1")}, "queries"),
    ({"queries": np.zeros((3, 2), dtype="i8")}, "queries"),
    ({"sides": np.array([0, 2, 1], dtype="u1")}, "sides.1"),
    ({"sides": np.zeros(2, dtype="u1")}, "sides"),
    ({"entities": np.full((3, 1, HIDDEN), np.nan, dtype="f4")}, "entities"),
    ({"strange": np.zeros(1, dtype="f4")}, "strange"),
]


@pytest.mark.parametrize(("changed", "field"), BAD_TENSORS)
def test_a_tensor_request_is_refused_by_field(client: httpx.Client, changed: dict, field: str) -> None:
    reply = client.post("/encode", content=tensors.encode(encode_tensors() | changed), headers=ST)
    assert refused(reply, problems.InvalidRequest).errors[0].field == field


@pytest.mark.parametrize(
    ("message", "field"),
    [
        ({"entity_texts": {"3": {"name": "x"}}}, "message.entity_texts.3"),
        ({"entity_texts": {"0": {"text_only": True}}}, "entities.0"),
        ({"entity_texts": {"0": {"nam": "x"}}}, "message.entity_texts.0.nam"),
        ({"readout": "verdict"}, "message.readout"),
    ],
)
def test_a_message_is_refused_by_field(client: httpx.Client, message: dict, field: str) -> None:
    reply = client.post("/encode", content=tensors.encode(encode_tensors(), message), headers=ST)
    assert refused(reply, problems.InvalidRequest).errors[0].field == field


@pytest.mark.parametrize(
    ("changed", "limit"),
    [
        ({"queries": np.zeros((601, 2), dtype="i4"), "sides": np.zeros(601, "u1")}, "max_prompts"),
        ({"entities": vectors(51, 1, HIDDEN)}, "max_slots"),
        ({"relations": vectors(2, 9, HIDDEN)}, "max_vectors_per_slot"),
    ],
)
def test_a_batch_over_a_limit_names_it(client: httpx.Client, changed: dict, limit: str) -> None:
    reply = client.post("/encode", content=tensors.encode(encode_tensors() | changed), headers=ST)
    assert refused(reply, problems.BodyTooLarge, limit).model_extra["name"] == limit


def test_a_long_text_is_over_the_limit_of_tokens(client: httpx.Client) -> None:
    reply = client.post("/encode", json={**QUERY, "entities": [{"name": "a" * 400}]})
    refused(reply, problems.BodyTooLarge, "max_prompt_tokens is 300")


def test_bodies_over_the_limit_are_not_read_to_their_end(client: httpx.Client) -> None:
    refused(client.post("/score", content=b"x" * 400_001, headers=ST), problems.BodyTooLarge, "400000")
    connection = http.client.HTTPConnection(client.base_url.host, client.base_url.port, timeout=10)
    connection.request("POST", "/score", (b"x" * 65_536 for _ in range(10)), ST, encode_chunked=True)
    reply = connection.getresponse()
    assert (reply.status, reply.headers["content-type"]) == (413, problems.MEDIA_TYPE)
    connection.close()


def test_routes_and_media_types_that_are_not_there(client: httpx.Client) -> None:
    refused(client.get("/nothing"), problems.NotFound, "/nothing")
    refused(client.get("/score"), problems.MethodNotAllowed, "GET")
    refused(client.post("/score", content=b"{}"), problems.WrongMediaType, "absent")
    pickled = pickle.dumps({"triples": [[0, 0, 0]]})
    refused(
        client.post("/score", content=pickled, headers={"content-type": "application/x-pickle"}),
        problems.WrongMediaType,
    )
    refused(client.post("/score", content=pickled, headers=ST), problems.InvalidRequest)
    refused(
        client.post("/score", content=pickled, headers={"content-type": "application/json"}), problems.InvalidRequest
    )


def lying(header: Any, numbers: bytes = b"\0" * 8) -> bytes:
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + numbers


@pytest.mark.parametrize(
    "body",
    [
        b"",
        struct.pack("<Q", 1 << 60) + b"{}",
        lying([]),
        lying({"triples": {"dtype": "I32", "shape": [1, 3], "data_offsets": [0, 1 << 40]}}),
        lying({"triples": {"dtype": "I32", "shape": [1 << 40, 3], "data_offsets": [0, 8]}}),
        lying({"triples": {"dtype": "I32", "shape": [-1, 3], "data_offsets": [0, 8]}}),
        lying({"triples": {"dtype": "I32", "shape": [0, 3], "data_offsets": [8, 0]}}),
        lying({"triples": None}),
    ],
)
def test_safetensors_that_lie_are_refused(client: httpx.Client, body: bytes) -> None:
    refused(client.post("/score", content=body, headers=ST), problems.InvalidRequest)
    assert client.get("/ready").status_code == 200
