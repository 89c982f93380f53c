"""`SCORER_BACKEND=openai`: the same routes in front of another server."""

import json
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from protocol import tensors
from protocol.problems import Busy, ModelFailed, OverBudget
from protocol.scoring import SCORE_REPLY_TENSORS

from .remote.openai_server import OpenAI, Sent, fault, said, serve
from .requests import HIDDEN, QUERY, SHORT, ST, score_call
from .serving import Served, eventually, opened, served
from .test_refusals import refused


@pytest.fixture(scope="module")
def other() -> Iterator[OpenAI]:
    with serve() as running:
        yield running


@pytest.fixture(scope="module")
def remote(other: OpenAI) -> Iterator[Served]:
    with served(backend="openai", model="m", openai_base_url=other.url) as running:
        yield running


def answer(prompt: str) -> Sent:
    """Likes `d` better, and has no word for `e`."""
    if "tail: e" in prompt:
        return said("I cannot say")
    likes = 0.8 if "tail: d" in prompt else 0.3
    if "number" in prompt:
        return said("9", {"9": likes, "0": 1 - likes})
    return said("yes", {"yes": likes, "no": 1 - likes})


@pytest.mark.parametrize(("readout", "score"), [("verdict", math.log(0.3 / 0.7)), ("number", 2.7)])
def test_scores_and_ranks_come_from_the_other_server(remote: Served, other: OpenAI, readout: str, score: float) -> None:
    other.answer = answer
    told = remote.post("/score", json=SHORT | {"readout": readout}).json()
    assert told["scores"] == pytest.approx([score])
    assert (told["model"], told["revision"], told["readout"]) == ("m", "remote", readout)
    asked = {"head": "a", "relation": "b", "candidates": ["c", "d", "e"], "readout": readout}
    ranked = remote.post("/rank", json=asked).json()
    assert [(result["index"], result["rank"]) for result in ranked["results"]] == [(1, 1), (0, 2)]
    assert list(ranked["reasons"]) == ["2"]


def test_an_answer_that_cannot_be_read_is_null_with_a_reason(remote: Served, other: OpenAI) -> None:
    other.answer = answer
    told = remote.post("/score", json={"triples": [{"head": "a", "relation": "b", "tail": "e"}]}).json()
    assert told["scores"] == [None]
    assert told["reasons"]["0"]
    triple = {"triples": np.array([[0, 0, 1]], dtype="i4")}
    texts = {"entity_texts": {"0": {"name": "a"}, "1": {"name": "e"}}, "relation_texts": {"0": {"name": "b"}}}
    reply = remote.post("/score", content=tensors.encode(triple, texts), headers=ST)
    arrays, message = tensors.decode(reply.content, SCORE_REPLY_TENSORS)
    assert np.isnan(arrays["scores"]).all()
    assert message["reasons"] == told["reasons"]


def test_vectors_are_shown_as_numbers_or_not_at_all(remote: Served) -> None:
    assert remote.post("/score", json=score_call(HIDDEN).json).status_code == 422
    assert remote.post("/score", json=score_call(HIDDEN, vectors_as="numbers").json).status_code == 200


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("/score", SHORT | {"readout": "likelihood"}, "readout"),
        ("/score", SHORT | {"keep": True}, "keep"),
        ("/score", SHORT | {"template": "tail"}, "template"),
        ("/score/gradient", SHORT | {"grad_scores": [1.0]}, "readout"),
        ("/encode", QUERY, "readout"),
        ("/encode/gradient", QUERY | {"grad_states": [[1.0]]}, "readout"),
    ],
)
def test_what_it_cannot_do_is_refused_with_the_way_out(remote: Served, path: str, body: Any, field: str) -> None:
    reply = remote.post(path, json=body)
    assert reply.status_code == 422
    assert reply.json()["errors"][0]["field"] == field


def test_info_says_what_it_offers(remote: Served) -> None:
    info = remote.get("/info").json()
    assert (info["backend"], info["readouts"]) == ("openai", ["number", "verdict"])
    assert remote.get("/ready").status_code == 200


@pytest.mark.parametrize("path", ["/score", "/rank"])
def test_what_the_other_server_refuses_is_refused_in_our_words(remote: Served, other: OpenAI, path: str) -> None:
    body = SHORT if path == "/score" else {"head": "a", "relation": "b", "candidates": ["c", "d"]}
    other.answer = lambda prompt: fault(401)
    refused(remote.post(path, json=body), ModelFailed, "SCORER_OPENAI_API_KEY")
    other.answer = lambda prompt: fault(429, retry_after="200")
    reply = remote.post(path, json=body)
    refused(reply, Busy, "rate limit")
    assert reply.headers["retry-after"] == "200"
    other.answer = answer
    assert remote.post(path, json=body).status_code == 200


def test_a_spent_budget_is_402_and_no_prompt_is_sent(other: OpenAI) -> None:
    other.answer = lambda prompt: said("yes", {"yes": 0.6, "no": 0.4}, usage={"prompt_tokens": 100})
    prices = {"openai_input_price": 1.0, "openai_output_price": 1.0, "openai_max_cost": 0.0003}
    with served(backend="openai", model="m", openai_base_url=other.url, **prices) as running:
        statuses = [running.post("/score", json=SHORT).status_code for _ in range(4)]
        assert (statuses[0], statuses[-1]) == (200, 402)
        asked = len(other.asked)
        refused(running.post("/score", json=SHORT), OverBudget, "SCORER_OPENAI_MAX_COST")
        refused(running.post("/rank", json={"head": "a", "relation": "b", "candidates": ["c"]}), OverBudget)
        assert len(other.asked) == asked
        assert running.get("/ready").status_code == 200


def test_prompts_of_a_caller_that_has_gone_are_not_sent(remote: Served, other: OpenAI) -> None:
    other.answer = lambda prompt: said("yes", {"yes": 0.6, "no": 0.4}, waits=True)
    other.opened.clear()
    asked = len(other.asked)
    body = json.dumps({"triples": SHORT["triples"] * 200}).encode()
    head = ("Content-Type: application/json", f"Content-Length: {len(body)}")
    with opened(remote.port, "/score", *head) as connection:
        connection.sendall(body)
        eventually(lambda: len(other.asked) > asked)
    eventually(lambda: not remote.app.state.places._taken["forward"])
    other.opened.set()
    other.answer = answer
    assert remote.post("/score", json=SHORT).status_code == 200
    assert len(other.asked) - asked <= 16 + 1  # those under way, and the last
