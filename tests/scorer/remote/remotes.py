"""Calls to a `Remote` whose server is the stand-in."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, TypeVar

import numpy as np
import pytest

from services.scorer.remote.client import Remote
from services.scorer.requests import ScoreCall, Slots, SlotText
from services.scorer.results import Scores
from services.scorer.settings import Settings
from services.scorer.templates import load

from .openai_server import OpenAI, serve

TEMPLATES = load()
T = TypeVar("T")


@pytest.fixture
def server() -> Iterator[OpenAI]:
    with serve() as running:
        yield running


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What the client means to wait between its attempts; it does not."""
    found: list[float] = []

    async def sleep(seconds: float) -> None:
        found.append(seconds)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    return found


def call(candidates: int, readout: Any = "verdict") -> ScoreCall:
    """A query of so many candidates, `e1` and following."""
    texts = {row: SlotText(f"e{row}") for row in range(candidates + 1)}
    none = np.zeros(candidates + 1, dtype=np.int64)
    entities = Slots(np.zeros((0, 0), dtype=np.float32), none, none, texts)
    relations = Slots(np.zeros((0, 0), dtype=np.float32), none[:1], none[:1], {0: SlotText("treats")})
    return ScoreCall(entities, relations, np.array([[0, 0, tail] for tail in range(1, candidates + 1)]), readout)


def settings(server: OpenAI, **given: Any) -> Settings:
    return Settings(**({"backend": "openai", "model": "m", "openai_base_url": server.url} | given))


def use(server: OpenAI, action: Callable[[Remote], Awaitable[T]], **given: Any) -> T:
    async def run() -> T:
        remote = Remote(settings(server, **given))
        try:
            return await action(remote)
        finally:
            await remote.close()

    return asyncio.run(run())


def score(server: OpenAI, candidates: int = 1, readout: str = "verdict", **given: Any) -> Scores:
    template = TEMPLATES["triple" if readout == "verdict" else "number"]
    return use(server, lambda remote: remote.score(call(candidates, readout), template), **given)


def tail(prompt: str) -> int:
    return int(prompt.partition("tail: e")[2].split()[0])
