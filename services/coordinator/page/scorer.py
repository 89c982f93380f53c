"""How the scorer is that the operator has named: its model, its load, its speed. Asked while somebody watches."""

import asyncio
import math
import time
from dataclasses import dataclass, field

import httpx
from prometheus_client.parser import text_string_to_metric_families
from pydantic import ValidationError

from protocol.info import Info

FRESH_SECONDS = 2.0
TIMEOUT_SECONDS = 1.5
MAX_BYTES = 1 << 20
"""Of an answer: a scorer may be another party's."""
_PREFIX = "tripleherd_scorer_"


@dataclass(frozen=True)
class ScorerState:
    """The scorer at one moment.

    Attributes:
        url: Where it is.
        fault: Why it could not be asked, in one line; then nothing else is known.
        info: Its model and limits.
        waiting: Calls that wait.
        tokens_per_second, prompts_per_second: Since the look before; None at the first.
    """

    url: str
    fault: str | None = None
    info: Info | None = None
    waiting: int = 0
    tokens_per_second: float | None = None
    prompts_per_second: float | None = None


@dataclass
class _Counts:
    """What the scorer had counted at a time."""

    at: float
    tokens: float = 0.0
    prompts: float = 0.0
    waiting: float = 0.0


@dataclass
class ScorerWatch:
    """Asks a scorer, at most once in `FRESH_SECONDS`, for however many watchers."""

    url: str
    key: str | None
    _state: ScorerState | None = None
    _asked: float = -FRESH_SECONDS
    _before: _Counts | None = None
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def state(self) -> ScorerState:
        """The scorer as it is now, or was a moment ago."""
        async with self._lock:
            if self._state is None or time.monotonic() - self._asked >= FRESH_SECONDS:
                self._state = await self._ask()
                self._asked = time.monotonic()
            return self._state

    async def _ask(self) -> ScorerState:
        headers = {"Authorization": f"Bearer {self.key}"} if self.key else {}
        try:
            async with (
                asyncio.timeout(TIMEOUT_SECONDS),
                httpx.AsyncClient(base_url=self.url, headers=headers, trust_env=False) as http,
            ):
                info = Info.model_validate_json(await _get(http, "/info"))
                counts = _counts(await _get(http, "/metrics"))
        except (httpx.HTTPError, httpx.InvalidURL, TimeoutError, ValueError) as error:
            return ScorerState(self.url, fault=_reason(error))
        before, self._before = self._before, counts
        seconds = counts.at - before.at if before else 0.0
        if before is None or counts.tokens < before.tokens:  # it has started anew
            return ScorerState(self.url, info=info, waiting=int(counts.waiting))
        return ScorerState(
            self.url,
            info=info,
            waiting=int(counts.waiting),
            tokens_per_second=(counts.tokens - before.tokens) / seconds,
            prompts_per_second=(counts.prompts - before.prompts) / seconds,
        )


async def _get(http: httpx.AsyncClient, path: str) -> str:
    """The body of a reply that is no refusal and no longer than `MAX_BYTES`."""
    async with http.stream("GET", path) as reply:
        reply.raise_for_status()
        body = bytearray()
        async for part in reply.aiter_bytes():
            body += part
            if len(body) > MAX_BYTES:
                raise ValueError(f"its {path} is over {MAX_BYTES} bytes")
        return body.decode(errors="replace")


def _counts(metrics: str) -> _Counts:
    counts = _Counts(time.monotonic())
    for family in text_string_to_metric_families(metrics):
        total = sum(sample.value for sample in family.samples if not sample.name.endswith("_created"))
        if not math.isfinite(total):
            raise ValueError(f"its {family.name} is {total}")
        if family.name == _PREFIX + "tokens":
            counts.tokens = total
        elif family.name == _PREFIX + "prompts":
            counts.prompts = total
        elif family.name == _PREFIX + "queue_length":
            counts.waiting = total
    return counts


def _reason(error: Exception) -> str:
    if isinstance(error, httpx.HTTPStatusError):
        return f"it answers {error.response.status_code}"
    if isinstance(error, TimeoutError | httpx.TimeoutException):
        return f"no answer within {TIMEOUT_SECONDS:g} s"
    if isinstance(error, ValidationError):
        return "what answers there is no scorer of this version"
    return str(error).splitlines()[0] if str(error) else type(error).__name__
