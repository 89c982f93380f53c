import logging
import traceback
from pathlib import Path
from typing import Any

import pytest

from protocol.problems import Busy, ModelFailed, ProblemError

from .openai_server import CLOSED, OpenAI, Sent, fault, said, serve
from .remotes import score, server, tail, waits

__all__ = ["server", "waits"]

KEY = "sk-0123456789-do-not-tell"


def test_a_rate_limit_that_stays_is_the_callers_to_wait_for(server: OpenAI, waits: list[float]) -> None:
    server.answer = lambda prompt: fault(429, "m", "rate_limit", Retry_After="33")
    with pytest.raises(Busy, match=r"429, rate_limit.*SCORER_OPENAI_CONCURRENCY") as refusal:
        score(server, openai_retries=2)
    assert refusal.value.retry_after == 33
    assert waits == [33, 33]


@pytest.mark.parametrize(
    ("told", "wait"),
    [("1800", 1800), ("90000", 3600), ("Fri, 31 Dec 2199 23:59:59 GMT", 3600)],
)
def test_a_server_that_wants_a_long_pause_is_not_asked_again(
    server: OpenAI, waits: list[float], told: str, wait: int
) -> None:
    server.answer = lambda prompt: fault(429, Retry_After=told)
    with pytest.raises(Busy) as refusal:
        score(server)
    assert refusal.value.retry_after == wait
    assert waits == []
    assert len(server.asked) == 1


@pytest.mark.parametrize("told", ["soon", "nan", "-5", "Fri, 31 Dec 1999 23:59:59 GMT"])
def test_a_pause_that_cannot_be_read_is_one_second(server: OpenAI, told: str) -> None:
    server.answer = lambda prompt: fault(429, Retry_After=told)
    with pytest.raises(Busy) as refusal:
        score(server, openai_retries=0)
    assert refusal.value.retry_after == 1


@pytest.mark.parametrize(
    ("sent", "way_out"),
    [
        (fault(401), r"refuses the key \(401\); set SCORER_OPENAI_API_KEY"),
        (fault(403, "not from here"), r"refuses the key \(403: not from here\); set SCORER_OPENAI_API_KEY"),
        (fault(404, "no such model"), r"no model 'm'.*404: no such model.*SCORER_MODEL.*SCORER_OPENAI_BASE_URL"),
        (fault(400, "logprobs are\nnot supported"), r"answered 400: logprobs are not supported; .*SCORER_MODEL"),
        (fault(500, "out of memory"), r"answered 500: out of memory"),
        (Sent(b"<html>Bad gateway</html>", 502, {"Retry-After-Ms": "1"}), r"answered 502"),
        (CLOSED, r"cannot be reached after 1 retries.*SCORER_OPENAI_BASE_URL"),
        (Sent(b"{no json"), r"sent no chat completion.*SCORER_OPENAI_BASE_URL"),
        (Sent(b"<html>hello</html>", headers={"Content-Type": "text/html"}), r"sent no chat completion"),
        (Sent({"hello": "world"}), r"sent no chat completion"),
    ],
)
def test_a_prompt_that_fails_for_good_fails_the_call_with_the_way_out(
    server: OpenAI, waits: list[float], sent: Sent, way_out: str
) -> None:
    server.answer = lambda prompt: sent if tail(prompt) == 2 else said("yes", {"yes": 0.75, "no": 0.25})
    with pytest.raises(ModelFailed, match=way_out) as refusal:
        score(server, 3, openai_retries=1)
    assert "\n" not in refusal.value.detail


def test_a_server_that_is_not_there_is_named_as_such(waits: list[float]) -> None:
    with serve() as gone:
        pass
    with pytest.raises(ModelFailed, match="cannot be reached after 5 retries"):
        score(gone)
    assert len(waits) == 5


def test_an_address_without_the_apis_path_is_named_as_such(server: OpenAI) -> None:
    with pytest.raises(ModelFailed, match=r"404.*SCORER_OPENAI_BASE_URL"):
        score(server, openai_base_url=server.url.removesuffix("/v1"))


def everything(server: OpenAI, **given: Any) -> list[ProblemError]:
    """All that a server can do, to a scorer that has a key."""
    echo = f"Incorrect API key: {KEY}"
    problems = []
    for sent in (
        said("1"),
        CLOSED,
        Sent(b"{"),
        *(fault(s, echo, f"bad {KEY}") for s in (400, 401, 403, 404, 429, 500)),
    ):
        server.answer = lambda prompt, sent=sent: sent
        try:
            score(server, 2, "number", openai_retries=1, **given)
        except ProblemError as problem:
            problems.append(problem)
    return problems


def test_the_key_is_sent_and_told_to_nobody_else(
    server: OpenAI, waits: list[float], caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    caplog.set_level(logging.DEBUG)
    file = tmp_path / "key"
    file.write_text(f"{KEY}\n")
    problems = everything(server, openai_api_key=KEY) + everything(server, openai_api_key_file=file)
    assert len(problems) == 16
    assert {headers["authorization"] for headers in server.headers} == {f"Bearer {KEY}"}
    shown = [str(problem) + problem.document().model_dump_json() for problem in problems]
    traces = ["".join(traceback.format_exception(problem)) for problem in problems]
    logged = "\n".join(f"{record.getMessage()} {record.args}" for record in caplog.records)
    assert "Retrying" in logged
    for text in (*shown, *traces, caplog.text, logged):
        assert KEY not in text
