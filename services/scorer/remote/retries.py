"""Asks again where that may help: closed connections, timeouts, 408, 409, 429, 5xx.

It waits as long as `Retry-After` says, up to two minutes, else doubling times of up to 8 s with jitter. A server that
asks for more than two minutes is not asked again: the caller is told to wait in its place. The `openai` library would
do the same by itself, but inside of one call, where the cost cap would see one attempt of several.
"""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TypeVar

from openai import APIConnectionError, APIStatusError

log = logging.getLogger(__name__)

_LONGEST_TOLD = 120.0
_FIRST_WAIT, _LONGEST_WAIT = 0.5, 8.0
_JITTER = 0.25

T = TypeVar("T")


async def with_retries(attempt: Callable[[], Awaitable[T]], retries: int) -> T:
    """The result of the first attempt that succeeds, of one and so many more.

    Raises:
        APIConnectionError, APIStatusError: Of the last attempt. Whatever else an attempt raises ends it at once.
    """
    for retry in range(retries):
        try:
            return await attempt()
        except (APIConnectionError, APIStatusError) as error:
            wait = _wait(error, retry)
            if wait is None:
                raise
        log.debug("Retrying a prompt in %.2f s (retry %d of %d)", wait, retry + 1, retries)
        await asyncio.sleep(wait)
    return await attempt()


def told_wait(headers: Mapping[str, str]) -> float | None:
    """Seconds that the server asks to wait, whatever number it sends, or None where it says nothing readable."""
    for header, second in (("retry-after-ms", 1000), ("retry-after", 1)):
        try:
            return float(headers.get(header, "")) / second
        except ValueError:
            pass
    try:
        return (parsedate_to_datetime(headers.get("retry-after", "")) - datetime.now(UTC)).total_seconds()
    except (TypeError, ValueError, OverflowError):
        return None


def _wait(error: APIConnectionError | APIStatusError, retry: int) -> float | None:
    """Seconds until the next attempt, or None where there should be none."""
    told = None
    if isinstance(error, APIStatusError):
        if not _may_pass(error):
            return None
        told = told_wait(error.response.headers)
    if told is not None and told > _LONGEST_TOLD:
        return None
    if told is not None and told > 0:
        return told
    return min(_FIRST_WAIT * 2.0**retry, _LONGEST_WAIT) * (1 - _JITTER * random.random())


def _may_pass(error: APIStatusError) -> bool:
    """Whether the same prompt may have an answer later; OpenAI's own servers say so in a header."""
    said = error.response.headers.get("x-should-retry")
    if said in ("true", "false"):
        return bool(said == "true")
    return error.status_code in (408, 409, 429) or error.status_code >= 500
