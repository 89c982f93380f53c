"""What another server's failures mean to a caller: exceptions of the `openai` library as problems.

They say what failed and which setting is the way out. A server's own words are quoted only where they help, without the
key, in case it stands in them; the library's exceptions are never chained, since their text is the server's.
"""

import math
from collections.abc import Mapping

from openai import APIConnectionError, APIStatusError, APITimeoutError

from protocol.problems import LONGEST_WAIT, Busy, ModelFailed, ProblemError
from services.scorer.remote.retries import told_wait
from services.scorer.settings import Settings

_QUOTED = 200
_SERVER = "the OpenAI-compatible server"
_ADDRESS = "check SCORER_OPENAI_BASE_URL"
_NEVER_SENT = frozenset({"ConnectError", "ConnectTimeout", "PoolTimeout", "ProxyError"})
"""What the HTTP client raises before a request is on its way. By name: `openai` has changed its HTTP client before."""
_GIVEN_UP = frozenset({408, 502, 504, 524})
"""Statuses of a server, or a proxy before it, that waited for an answer or lost the connection to whoever makes it."""


def problem_of(error: APIConnectionError | APIStatusError, settings: Settings, key: str | None) -> ProblemError:
    """The problem that a prompt's failure is, after all retries."""
    retries = f"after {settings.openai_retries} retries"
    if isinstance(error, APITimeoutError):
        wait = f"{settings.openai_timeout:g} s"
        return ModelFailed(f"{_SERVER} did not answer within {wait} {retries}; {_ADDRESS} and SCORER_OPENAI_TIMEOUT")
    if isinstance(error, APIConnectionError):
        return ModelFailed(f"{_SERVER} cannot be reached {retries}; {_ADDRESS} and that it runs")
    status = error.status_code
    if status == 429:
        code = f", {_masked(error.code, key)}" if error.code else ""
        return Busy(
            f"{_SERVER} is over its rate limit (429{code}); try again later, or lower SCORER_OPENAI_CONCURRENCY",
            retry_after=_wait(error.response.headers),
        )
    # The words of a 401 are about the key, and may hold parts of it.
    said = "" if status == 401 else _said(error, key)
    if status in (401, 403):
        return ModelFailed(
            f"{_SERVER} refuses the key ({status}{said}); set SCORER_OPENAI_API_KEY or SCORER_OPENAI_API_KEY_FILE"
        )
    if status == 404:
        return ModelFailed(
            f"{_SERVER} has no model {settings.model!r} there (404{said}); set SCORER_MODEL, or {_ADDRESS}"
        )
    return ModelFailed(f"{_SERVER} answered {status}{said}; see to it, {_ADDRESS} and SCORER_MODEL")


def may_have_run(error: APIConnectionError | APIStatusError) -> bool:
    """Whether the model may have run the prompt that failed, so that it may be billed."""
    if isinstance(error, APIStatusError):
        return error.status_code in _GIVEN_UP
    return type(error.__cause__).__name__ not in _NEVER_SENT


def not_the_api() -> ModelFailed:
    """Something answers at the address, but in another language."""
    return ModelFailed(f"{_SERVER} sent no chat completion; {_ADDRESS}, which mostly ends with /v1")


def _said(error: APIStatusError, key: str | None) -> str:
    message = error.body.get("message") if isinstance(error.body, dict) else error.body
    if not isinstance(message, str) or not message:
        return ""
    return f": {_masked(message, key)}"


def _masked(words: str, key: str | None) -> str:
    """A server's words on one line, without the key."""
    line = " ".join(words.split())
    return (line.replace(key, "***") if key else line)[:_QUOTED]


def _wait(headers: Mapping[str, str]) -> int:
    """Seconds that `Retry-After` asks for, at least 1 and no more than callers believe."""
    return math.ceil(min(max(1.0, told_wait(headers) or 1.0), LONGEST_WAIT))
