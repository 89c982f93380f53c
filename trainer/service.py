"""Calls to a service: retries with jitter, problems as exceptions, and errors that name the address.

A call is tried again where the service did not answer, failed, is busy or is not ready; a refusal is final. Clients'
calls are safe to repeat: the coordinator answers a repeated join, update or evaluation as it answered the first.
"""

from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

import httpx
from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_delay
from tenacity.wait import wait_exponential, wait_random

from protocol.problems import (
    Busy,
    Forbidden,
    MethodNotAllowed,
    NotFound,
    NotReady,
    ProblemError,
    Unauthorized,
    problem_from_response,
)
from protocol.tensors import MEDIA_TYPE

GIVE_UP_AFTER = 300.0
"""Seconds without an answer after which a call fails: long enough for a service to be started again."""

TIMEOUT = httpx.Timeout(600.0, connect=10.0)

Report = Callable[[str], None]


FAILURES = {500, 502, 504}
"""A service, or a proxy in front of it, failed on a call that may succeed later."""


class ServiceFailed(ProblemError):
    """A service went on failing for `GIVE_UP_AFTER` seconds."""


class ServiceUnreachable(Exception):
    """A service did not answer for `GIVE_UP_AFTER` seconds, or its address is none; the message names the address."""


class Service:
    """One service at one address.

    Args:
        name: What it is, for messages.
        url: Where it is, as `http://127.0.0.1:8000`.
        token: Sent as bearer token, if given.
        report: Told when a call has to be tried again.
        give_up_after: Seconds without an answer after which a call fails.

    Raises:
        ServiceUnreachable: The address is not a URL.

    Raises (every call):
        ServiceUnreachable: No answer for `give_up_after` seconds.
        ProblemError: The service refused the call.
    """

    def __init__(
        self, name: str, url: str, token: str | None, report: Report, give_up_after: float = GIVE_UP_AFTER
    ) -> None:
        self.name, self.url, self.report, self.give_up_after = name, url.rstrip("/"), report, give_up_after
        self.token = token
        self._client = httpx.Client(base_url=_address(name, self.url), timeout=TIMEOUT)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def json(self, method: str, path: str, body: str | None = None, **params: Any) -> bytes:
        """Call with a JSON body, or with none."""
        return self._call(method, path, None if body is None else body.encode(), "application/json", params)

    def tensors(self, method: str, path: str, body: bytes | None = None) -> bytes:
        """Call with a safetensors body, or with none."""
        return self._call(method, path, body, MEDIA_TYPE, {})

    def _call(self, method: str, path: str, body: bytes | None, media_type: str, params: dict[str, Any]) -> bytes:
        retrying = Retrying(
            retry=retry_if_exception(_may_pass),
            stop=stop_after_delay(self.give_up_after),
            wait=_wait,
            before_sleep=self._tell,
            reraise=True,
        )
        try:
            return retrying(self._once, method, path, body, media_type, params)
        except httpx.TransportError as error:
            raise ServiceUnreachable(
                f"the {self.name} at {self.url} did not answer for {self.give_up_after:.0f} s ({_reason(error)}); "
                "is it running, and is the address right?"
            ) from error

    def _once(self, method: str, path: str, body: bytes | None, media_type: str, params: dict[str, Any]) -> bytes:
        headers = {"Content-Type": media_type} if body is not None else {}
        if self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        given = {k: v for k, v in params.items() if v is not None}
        response = self._client.request(method, path, content=body, headers=headers, params=given)
        if response.is_success:
            return response.content
        problem = problem_from_response(response.status_code, response.content)
        if response.status_code in FAILURES:
            raise ServiceFailed(problem.detail)
        if isinstance(problem, Unauthorized | Forbidden | NotFound | MethodNotAllowed):
            # These often mean that the address is that of something else.
            detail = f"the {self.name} at {self.url}: {problem.detail}"
            raise type(problem)(detail, errors=problem.errors, **problem.extra)
        raise problem

    def _tell(self, state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        if state.attempt_number == 1 and error is not None:
            self.report(f"the {self.name} at {self.url} does not answer as it should ({_reason(error)}); trying again")


def _address(name: str, url: str) -> httpx.URL:
    try:
        address = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise ServiceUnreachable(f"the {name}'s address {url!r} is not a URL: {error}") from error
    if address.scheme not in ("http", "https") or not address.host:
        raise ServiceUnreachable(f"the {name}'s address {url!r} is not a URL such as http://127.0.0.1:8000")
    return address


_backoff = wait_exponential(multiplier=0.2, max=10.0) + wait_random(0.0, 1.0)


def _wait(state: RetryCallState) -> float:
    """Seconds to wait: what a busy service asked for, or exponentially longer, with jitter."""
    error = state.outcome.exception() if state.outcome else None
    return max(error.retry_after if isinstance(error, Busy) else 0.0, _backoff(state))


def _may_pass(error: BaseException) -> bool:
    """Whether the same call may succeed later."""
    return isinstance(error, httpx.TransportError | Busy | NotReady | ServiceFailed)


def _reason(error: BaseException) -> str:
    return str(error) or type(error).__name__
