"""The service without HTTP: how it starts, and what it holds on to."""

import asyncio
import json
import math
import threading
from typing import Any

import pytest
import torch

from protocol.problems import BodyTooLarge, InvalidRequest
from services.scorer.metrics import Metrics
from services.scorer.model import random_llama
from services.scorer.model.loading import LoadError
from services.scorer.service import READERS, Service
from services.scorer.settings import Settings
from services.web import JSON

from .requests import HIDDEN, QUERY, SHORT
from .serving import PATIENCE, served


def warmed(**settings: Any) -> Service:
    service = Service(Settings(model="random", **settings))
    asyncio.run(service.warm())
    return service


def test_the_smallest_limits_still_leave_room_to_start() -> None:
    with served(max_prompts=1, max_slots=1, max_vectors_per_slot=1, queue=1, max_body_bytes=1024) as running:
        same = {"head": "a", "relation": "b", "tail": "a"}
        assert running.post("/score", json={"triples": [same]}).status_code == 200
        assert running.post("/score", json={"triples": [same, same]}).status_code == 413


@pytest.mark.parametrize("limit", ["max_prompt_tokens", "max_call_tokens"])
def test_a_limit_that_no_call_can_keep_ends_the_start_and_is_named(limit: str) -> None:
    with pytest.raises(LoadError, match=limit) as refusal:
        warmed(**{limit: 5})
    assert "\n" not in str(refusal.value)


def test_a_model_that_fails_ends_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(random_llama, "_normal", lambda shape, generator: torch.full(shape, math.nan))
    with pytest.raises(LoadError, match="cannot use 'random': the model produced NaN"):
        warmed()


def test_a_model_without_words_for_yes_and_no_still_encodes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(random_llama, "WORDS", [word for word in random_llama.WORDS if word not in (" yes", " no")])
    with served() as running:
        info = running.get("/info").json()
        assert info["readouts"] == ["likelihood", "number", "state"]
        assert "triple" not in info["templates"]
        assert running.post("/encode", json=QUERY).status_code == 200
        refused = running.post("/score", json=SHORT)
        assert refused.status_code == 422
        assert refused.json()["errors"][0]["field"] == "template"
        assert running.post("/score", json=SHORT | {"readout": "number"}).status_code == 200


def test_a_bad_template_is_a_failure_to_load(tmp_path: Any) -> None:
    (tmp_path / "mine.toml").write_text("text = 3")
    with pytest.raises(LoadError, match=r"SCORER_TEMPLATES: .*mine\.toml"):
        Service(Settings(templates=tmp_path))


def test_a_call_that_is_dropped_before_a_thread_is_free_leaves_nothing_behind(service: Service) -> None:
    """Bodies may be large: those whose callers went must not pile up before the threads."""
    begun, go = threading.Semaphore(0), threading.Event()
    ran: list[bytes] = []

    def route(body: bytes, media: str) -> Any:
        ran.append(body)
        begun.release()
        assert go.wait(PATIENCE)
        raise InvalidRequest.of("body", "is what the test asks for")

    async def run() -> None:
        calls = [asyncio.create_task(service.answer(route, b"%d" % n, JSON)) for n in range(READERS + 3)]
        for _ in range(READERS):
            assert await asyncio.to_thread(begun.acquire, timeout=PATIENCE)
        for call in calls[READERS:]:
            call.cancel()
        await asyncio.wait(calls[READERS:])
        assert service._pool._work_queue.empty()
        calls[0].cancel()  # it is in a thread, which ends in its own time
        await asyncio.wait(calls[:1])
        go.set()
        for call in calls[1:READERS]:
            with pytest.raises(InvalidRequest):
                await call
        score = service.score
        assert b"scores" in await service.answer(
            score, b'{"triples": [{"head": "a", "relation": "b", "tail": "c"}]}', JSON
        )

    asyncio.run(run())
    assert sorted(ran) == [b"%d" % n for n in range(READERS)]


def test_a_refusal_does_not_reach_the_model(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service._backend, "_worker", None)
    with pytest.raises(InvalidRequest):
        asyncio.run(service.answer(service.encode, b'{"entities": []}', JSON))
    many = json.dumps({"triples": SHORT["triples"] * 20_000}).encode()
    with pytest.raises(BodyTooLarge, match="max_prompts"):
        asyncio.run(service.answer(service.score, many, JSON))


def test_info_names_what_is_loaded(service: Service) -> None:
    info = service.info
    assert (info.backend, info.architecture, info.dtype, info.device) == ("llama", "LlamaForCausalLM", "float32", "cpu")
    assert (info.hidden, info.layers, info.vocabulary) == (HIDDEN, 1, len(random_llama.build_tokenizer()))
    assert info.limits.max_prompt_tokens == min(Settings().max_prompt_tokens, random_llama.POSITIONS)
    assert info.batch_tokens > 0


def test_the_metrics_are_those_that_were_given() -> None:
    metrics = Metrics()
    assert Service(Settings(model="random"), metrics).metrics is metrics
