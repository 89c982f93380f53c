"""Calls to a service: retries with jitter, problems as exceptions, and errors that name the address.

A call is tried again where the service did not answer, failed, is busy, is not ready or has no room; a refusal is
final. Clients' calls are safe to repeat: the coordinator answers a repeated join, update or evaluation as it answered
the first. It refuses what an operator repeats; `Service.lost` tells `Coordinator` that this may be for having done it.
Where there is a key, each attempt is signed anew, since a signature is taken once.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from types import TracebackType
from typing import Any, BinaryIO, Self, TypeVar

import httpx
from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_attempt, stop_after_delay
from tenacity.wait import wait_exponential, wait_random

from protocol.problems import (
    Busy,
    Forbidden,
    MethodNotAllowed,
    NotFound,
    NotReady,
    ProblemError,
    StorageFull,
    Unauthorized,
    problem_from_response,
)
from protocol.signatures import Signer, content_digest
from protocol.tensors import MEDIA_TYPE
from trainer.reports import Report

GIVE_UP_AFTER = 300.0
"""Seconds without an answer after which a call fails: long enough for a service to be started again."""
ASKED_GIVES_UP_AFTER = 20.0
"""For a person who waits for the answer, and would rather be told that there is none."""
MEMBER_GIVES_UP_AFTER = 86_400.0
"""For a member of a federation, which has nothing better to do than to wait until a machine is mended."""
AWAY_SECONDS = 30.0
"""A service that was away for longer is said to answer again."""
READ_SECONDS = 600.0
"""For the next part of a reply, which a model may have to compute first."""
CONNECT_SECONDS = 10.0
MIN_ATTEMPTS = 3

JSON = "application/json"
_UNITS = ((3600, "hours"), (60, "minutes"), (1, "s"))
FAILURES = {500, 502, 504}
"""A service, or a proxy in front of it, failed on a call that may succeed later."""
NOT_DONE = httpx.ConnectError | httpx.ConnectTimeout | Busy | StorageFull
"""Nothing of the call was done; after any other failure that may pass, it may have been."""

T = TypeVar("T")


class ServiceFailed(ProblemError):
    """A service went on failing until the call gave up."""


class ServiceUnreachable(Exception):
    """A service did not answer until the call gave up, or its address is none; the message names the address."""


class ClockWrong(Exception):
    """A signature was refused because this machine's clock is too far from the service's."""


@dataclass(frozen=True)
class _Call:
    """One call, whatever its attempts. `seconds` bounds the wait for each part of the reply."""

    method: str
    path: str
    body: bytes | None = None
    media_type: str = JSON
    params: Mapping[str, Any] = field(default_factory=dict)
    token: str | None = None
    seconds: float = READ_SECONDS


class Service:
    """One service at one address.

    The path is signed as it is sent: a proxy in front of the coordinator must hand it on as it is, so where the address
    has a path of its own, the coordinator must be served under it.

    Args:
        name: What it is, for messages.
        url: Where it is, as `http://127.0.0.1:8000`.
        token: Sent as bearer token, if given.
        report: Told when a call has to be tried again, and when a service that was away for long is back.
        give_up_after: Seconds without an answer after which a call fails; may be changed between calls.
        signer: Signs every request (RFC 9421), if given.

    Attributes:
        failures: Counts calls that failed and were tried again, but for those that found the service busy.
        lost: Counts those of them that the service may have done all the same: the reply alone may have been lost.

    Raises:
        ServiceUnreachable: The address is not a URL.

    Raises (every call):
        ServiceUnreachable: No answer for `give_up_after` seconds.
        ClockWrong: A signature is not of now by the service's clock.
        ProblemError: The service refused the call.
    """

    def __init__(
        self,
        name: str,
        url: str,
        token: str | None,
        report: Report,
        give_up_after: float = GIVE_UP_AFTER,
        signer: Signer | None = None,
    ) -> None:
        self.name, self.url, self.report, self.give_up_after = name, url.rstrip("/"), report, give_up_after
        self.token, self.signer, self.failures, self.lost = token, signer, 0, 0
        self._away = 0.0  # when a call that is tried again failed first
        self._client = httpx.Client(base_url=_address(name, self.url))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def json(
        self,
        method: str,
        path: str,
        body: str | None = None,
        *,
        token: str | None = None,
        seconds: float = READ_SECONDS,
        **params: Any,
    ) -> bytes:
        """Call with a JSON body, or with none; `token` goes with this call in place of the service's."""
        content = None if body is None else body.encode()
        return self._answer(_Call(method, path, content, params=params, token=token, seconds=seconds))

    def tensors(self, method: str, path: str, body: bytes | None = None) -> bytes:
        """Call with a safetensors body, or with none."""
        return self._answer(_Call(method, path, body, MEDIA_TYPE))

    def download(self, path: str, out: BinaryIO, **params: Any) -> None:
        """Write a reply to a file, part by part; begun anew where the connection breaks."""

        def once(response: httpx.Response) -> None:
            out.seek(0)
            out.truncate()
            for part in response.iter_bytes():
                out.write(part)

        self._try(_Call("GET", path, params=params), once)

    def _answer(self, call: _Call) -> bytes:
        return self._try(call, httpx.Response.read)

    def _try(self, call: _Call, read: Callable[[httpx.Response], T]) -> T:
        retrying = Retrying(
            retry=retry_if_exception(_may_pass),
            # A call that hung for longer than that is tried again all the same.
            stop=stop_after_delay(self.give_up_after) & stop_after_attempt(MIN_ATTEMPTS),
            wait=_wait,
            before_sleep=self._failed,
            reraise=True,
        )
        digest = content_digest(call.body or b"") if self.signer else ""
        try:
            result: T = retrying(self._once, call, digest, read)
        except httpx.TransportError as error:
            raise ServiceUnreachable(
                f"the {self.name} at {self.url} did not answer for {_span(self.give_up_after)} ({_reason(error)}); "
                "is it running, and is the address right?"
            ) from error
        if retrying.statistics["attempt_number"] > 1 and time.monotonic() - self._away > AWAY_SECONDS:
            self.report(f"the {self.name} at {self.url} answers again")
        return result

    def _once(self, call: _Call, digest: str, read: Callable[[httpx.Response], T]) -> T:
        response = self._client.send(self._request(call, digest), stream=True)
        try:
            if response.is_success:
                return read(response)
            raise self._refusal(response.status_code, response.read())
        finally:
            response.close()

    def _request(self, call: _Call, digest: str) -> httpx.Request:
        headers = {"Content-Type": call.media_type} if call.body is not None else {}
        if token := call.token or self.token:
            headers["Authorization"] = f"Bearer {token}"
        given = {name: value for name, value in call.params.items() if value is not None}
        timeout = httpx.Timeout(call.seconds, connect=CONNECT_SECONDS)
        request = self._client.build_request(
            call.method, call.path, content=call.body, headers=headers, params=given, timeout=timeout
        )
        if self.signer:
            request.headers.update(self.signer.headers(call.method, str(request.url), digest))
        return request

    def _refusal(self, status: int, body: bytes) -> Exception:
        problem = problem_from_response(status, body)
        if status in FAILURES:
            return ServiceFailed(problem.detail)
        if isinstance(problem, Unauthorized) and (off := _clock_off(problem)) is not None:
            way = "behind" if off < 0 else "ahead of"
            return ClockWrong(
                f"this machine's clock is {abs(off):.0f} s {way} that of the {self.name} at {self.url}, which "
                "therefore takes no signature of it; set it, by NTP for one, and start again"
            )
        if isinstance(problem, Unauthorized | Forbidden | NotFound | MethodNotAllowed):
            # These often mean that the address is that of something else.
            detail = f"the {self.name} at {self.url}: {problem.detail}"
            return type(problem)(detail, errors=problem.errors, **problem.extra)
        return problem

    def _failed(self, state: RetryCallState) -> None:
        error = state.outcome and state.outcome.exception()
        assert error is not None
        self.failures += not isinstance(error, Busy)
        self.lost += not isinstance(error, NOT_DONE)
        if state.attempt_number == 1:
            self._away = time.monotonic()
            self.report(
                f"the {self.name} at {self.url} does not answer as it should ({_reason(error)}); trying again for "
                f"{_span(self.give_up_after)}"
            )


def _address(name: str, url: str) -> httpx.URL:
    try:
        address = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise ServiceUnreachable(f"the {name}'s address {url!r} is not a URL: {error}") from error
    if address.scheme not in ("http", "https") or not address.host:
        raise ServiceUnreachable(f"the {name}'s address {url!r} is not a URL such as http://127.0.0.1:8000")
    return address


def _clock_off(problem: Unauthorized) -> float | None:
    """Seconds by which this machine's clock is ahead of the service's, where the refusal states its time."""
    try:
        return time.time() - datetime.fromisoformat(problem.extra["server_time"]).timestamp()
    except (KeyError, TypeError, ValueError):
        return None


_backoff = wait_exponential(multiplier=0.2, max=10.0) + wait_random(0.0, 1.0)


def _wait(state: RetryCallState) -> float:
    """Seconds to wait: what a busy service asked for, or exponentially longer, with jitter."""
    error = state.outcome.exception() if state.outcome else None
    return max(error.retry_after if isinstance(error, Busy) else 0.0, _backoff(state))


def _may_pass(error: BaseException) -> bool:
    """Whether the same call may succeed later."""
    return isinstance(error, httpx.TransportError | Busy | NotReady | ServiceFailed | StorageFull)


def _span(seconds: float) -> str:
    return next(f"{seconds / unit:.0f} {name}" for unit, name in _UNITS if seconds >= 2 * unit or unit == 1)


def _reason(error: BaseException) -> str:
    return str(error) or type(error).__name__
