import json
import signal
import threading
from pathlib import Path
from typing import Any

import httpx
import pytest

from protocol import problems, tensors
from services.scorer import pages
from services.scorer.app import create_app
from services.scorer.model import random_llama
from services.scorer.settings import Settings
from services.scorer.templates import load

from .models import plain_score
from .requests import HIDDEN, SHORT, encode_call, score_call, sent, spoken
from .serving import Process, eventually, fails_to_start, metric, scorer, served

EXAMPLES = {
    "/score": pages.SCORE_EXAMPLES,
    "/score/gradient": pages.SCORE_GRADIENT_EXAMPLES,
    "/rank": pages.RANK_EXAMPLES,
    "/encode": pages.ENCODE_EXAMPLES,
    "/encode/gradient": pages.GRADIENT_EXAMPLES,
}
KEY = "an-api-key-for-tests"


@pytest.mark.parametrize(("path", "name"), [(path, name) for path, bodies in EXAMPLES.items() for name in bodies])
def test_every_example_of_the_api_page_is_answered(embedded: Process, path: str, name: str) -> None:
    reply = embedded.post(path, json=EXAMPLES[path][name])
    assert reply.status_code == 200, reply.text
    operation = embedded.get("/openapi.json").json()["paths"][path]["post"]
    shown = operation["requestBody"]["content"]["application/json"]["examples"]
    assert {key: example["value"] for key, example in shown.items()} == EXAMPLES[path]


def test_the_api_page_declares_every_refusal_with_an_example() -> None:
    document = create_app(Settings(model="random")).openapi()
    for path in EXAMPLES:
        operation = document["paths"][path]["post"]
        declared = {"200", "401", "408", "413", "415", "422", "424", "429", "500", "503"}
        assert set(operation["responses"]) == declared | ({"402"} if path in ("/score", "/rank") else set())
        assert set(operation["requestBody"]["content"]) == {"application/json", tensors.MEDIA_TYPE}
        for status in set(operation["responses"]) - {"200"}:
            example = operation["responses"][status]["content"][problems.MEDIA_TYPE]["example"]
            assert problems.Problem.model_validate(example).status == int(status)
    assert set(document["paths"]["/ready"]["get"]["responses"]) == {"200", "500", "503"}
    for path in ("/info", "/metrics"):
        assert set(document["paths"][path]["get"]["responses"]) == {"200", "401", "500"}


def test_the_api_page_refers_to_nothing_that_is_not_there() -> None:
    text = json.dumps(document := create_app(Settings(model="random")).openapi())
    assert "HTTPValidationError" not in text
    names = set(document["components"]["schemas"])
    assert all(reference.split('"')[0] in names for reference in text.split("#/components/schemas/")[1:])
    for header in ("ScoreHeader", "ScoreGradientHeader", "RankHeader", "EncodeHeader", "EncodeGradientHeader"):
        assert header in names  # what a tensor body's message is


def test_status_routes(client: Process) -> None:
    assert client.get("/health").json() == {"status": "alive"}
    assert client.get("/ready").json() == {"status": "ready"}
    info = client.get("/info").json()
    assert (info["backend"], info["model"], info["hidden"]) == ("llama", "random", HIDDEN)
    assert info["readouts"] == ["likelihood", "number", "state", "verdict"]
    assert info["limits"]["max_prompts"] == 600
    assert info["limits"]["max_prompt_tokens"] == 300
    assert set(info["templates"]) == set(load())
    assert "Tripleherd scorer" in client.get("/docs").text


def test_every_reply_says_what_made_it(embedded: Process) -> None:
    info = embedded.get("/info").json()
    for path, bodies in EXAMPLES.items():
        for body in bodies.values():
            told = embedded.post(path, json=body).json()
            assert (told["model"], told["revision"]) == (info["model"], info["revision"])
            hashes = {name: template["hash"] for name, template in info["templates"].items()}
            assert told["template_hash"] == (hashes | {"query+query_head": info["query_hash"]})[told["template"]]
            usage = told["usage"]
            assert 0 < usage["prompts"] < usage["tokens"]
            assert 0 < usage["shared_tokens"] < usage["tokens"]


def test_a_callers_request_id_comes_back_and_a_strange_one_does_not(client: Process) -> None:
    for reply in (
        client.get("/health", headers={"x-request-id": "mine-1"}),
        client.post("/score", json=SHORT, headers={"x-request-id": "mine-1"}),
        client.post("/score", json={}, headers={"x-request-id": "mine-1"}),
    ):
        assert reply.headers["x-request-id"] == "mine-1"
    strange = client.post("/score", json=SHORT, headers={"x-request-id": "two words"}).headers["x-request-id"]
    assert strange not in ("", "two words")


def test_metrics_count_calls_refusals_and_tokens(client: Process) -> None:
    before = {
        (name, kind): metric(client, name, kind=kind)
        for name in ("prompts_total", "tokens_total", "shared_tokens_total", "queue_wait_seconds_count")
        for kind in ("forward", "gradient")
    }
    answered = metric(client, "requests_total", route="/score", status="200")
    refused = metric(client, "refusals_total", route="/score", reason="invalid-request")
    usage = spoken(client, score_call())["usage"]
    gradient = spoken(client, encode_call(path="/encode/gradient", grad_states=encode_grads()))["usage"]
    client.post("/score", json={})
    assert metric(client, "requests_total", route="/score", status="200") == answered + 1
    assert metric(client, "refusals_total", route="/score", reason="invalid-request") == refused + 1
    for kind, told in (("forward", usage), ("gradient", gradient)):
        grown = {name: metric(client, name, kind=kind) - value for (name, k), value in before.items() if k == kind}
        assert grown["prompts_total"] == told["prompts"]
        assert grown["tokens_total"] + grown["shared_tokens_total"] == told["tokens"]
        assert grown["shared_tokens_total"] == told["shared_tokens"]
        assert grown["queue_wait_seconds_count"] == 1
        assert metric(client, "queue_length", kind=kind) == 0


def encode_grads() -> Any:
    return encode_call().entities[:, 0]


def test_who_has_not_the_key_may_see_that_the_scorer_lives_and_nothing_else() -> None:
    with served(model="random", api_key=KEY) as locked:
        for path in ("/health", "/ready", "/docs", "/openapi.json"):
            assert locked.get(path).status_code == 200
        calls = [locked.build_request("POST", path, json=SHORT) for path in EXAMPLES]
        calls += [locked.build_request("GET", path) for path in ("/info", "/metrics")]
        for request in calls:
            for token in (None, "Bearer another-key-than-that"):
                request.headers["authorization"] = token or ""
                reply = locked.send(request)
                assert (reply.status_code, reply.headers["www-authenticate"]) == (401, "Bearer")
                assert reply.headers["content-type"] == problems.MEDIA_TYPE
        locked.headers["authorization"] = f"Bearer {KEY}"
        assert locked.post("/score", json=SHORT).status_code == 200
        assert locked.get("/info").status_code == locked.get("/metrics").status_code == 200


def test_a_body_without_the_key_is_not_read() -> None:
    with served(model="random", api_key=KEY, max_body_bytes=1024) as locked:
        assert locked.post("/score", content=b"x" * 5000).status_code == 401


OWN = """
text = "{head} {relation} {tail} or not:"
readouts = ["verdict", "likelihood"]
labels = ["or", "no"]
"""
HEADS = 'text = "of {tail} and {relation}: {head}"\nreadouts = ["state"]\n'


def test_templates_of_a_folder_stand_beside_those_that_ship(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(OWN)
    (tmp_path / "asks-head.toml").write_text(HEADS)
    with served(model="random", templates=tmp_path) as running:
        info = running.get("/info").json()
        assert set(info["templates"]) == {*load(), "mine", "asks-head"}
        assert info["templates"]["mine"]["labels"] == ["or", "no"]
        told = running.post("/score", json=SHORT | {"template": "mine"}).json()
        assert told["template_hash"] == info["templates"]["mine"]["hash"] != running.post("/score", json=SHORT).json()
        template = load(tmp_path)["mine"]
        slots = {"head": ("a", None), "relation": ("b", None), "tail": ("c", None)}
        plain = float(plain_score(random_llama.build(Settings(model="random"))[0], template, slots).detach())
        assert told["scores"] == pytest.approx([plain], abs=1e-4)
        ranked = running.post("/rank", json={"head": "a", "relation": "b", "candidates": ["c"], "template": "mine"})
        assert ranked.json()["results"][0]["score"] == pytest.approx(told["scores"][0], abs=1e-5)
        states = [sent(running, encode_call(templates=pair))[0]["states"] for pair in (["query", "asks-head"], None)]
        same = (states[0] == states[1]).all(axis=1)
        assert same.tolist() == [True, False, False, True]  # by the sides that were asked


def test_a_template_may_be_one_file(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(OWN)
    with served(model="random", templates=tmp_path / "mine.toml") as running:
        assert running.post("/score", json=SHORT | {"template": "mine"}).status_code == 200
        assert running.post("/score", json=SHORT | {"template": "mine", "readout": "number"}).status_code == 422


def test_a_template_that_cannot_be_used_ends_the_start_with_one_line(tmp_path: Path) -> None:
    (tmp_path / "bad.toml").write_text("text = '{head} {relation}'\nreadouts = ['state']")
    code, log = fails_to_start(tmp_path, SCORER_MODEL="random", SCORER_TEMPLATES=str(tmp_path))
    assert code != 0
    assert "Traceback" not in log
    told = [line for line in log.splitlines() if "SCORER_TEMPLATES" in line]
    assert len(told) == 1
    assert "bad.toml: text: holds {tail} 0 times" in told[0]


def test_a_termination_lets_the_call_in_flight_end(tmp_path: Path) -> None:
    # One prompt a batch, so that the call runs long enough to be found running.
    body = {"triples": [{"head": f"a{n}", "relation": "b", "tail": f"c{n}"} for n in range(60)]}
    replies: list[httpx.Response] = []
    with scorer(tmp_path, SCORER_BATCH_TOKENS="16", SCORER_API_KEY=KEY) as running:
        assert running.get("/metrics").status_code == 401  # the setting was taken
        running.headers["authorization"] = f"Bearer {KEY}"
        before = metric(running, "prompts_total", kind="forward")
        caller = threading.Thread(target=lambda: replies.append(running.post("/score", json=body)))
        caller.start()
        eventually(lambda: metric(running, "prompts_total", kind="forward") > before)
        running.process.send_signal(signal.SIGTERM)
        caller.join()
        # uvicorn ends by the signal that it was sent, once all is done.
        assert running.process.wait(60) in (0, -signal.SIGTERM)
        log = running.log.read_text()
    assert [reply.status_code for reply in replies] == [200]
    assert len(replies[0].json()["scores"]) == 60
    assert "Application shutdown complete" in log
    assert "Traceback" not in log
