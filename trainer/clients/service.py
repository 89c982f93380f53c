"""Calls to a service: retries with jitter, problems as exceptions, and errors that name the address.

Clients' calls are safe to repeat: the coordinator answers a repeated join, update or evaluation as it answered the
first. It refuses what an operator repeats; `Service.lost` tells `Coordinator` that this may be for having done it.
Where there is a key, each attempt is signed anew, since a signature is taken once.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from types import TracebackType
from typing import Any, BinaryIO, Self, TypeVar

import httpx
from tenacity import RetryCallState

from protocol.problems import (
    Busy,
    Forbidden,
    MethodNotAllowed,
    NotFound,
    ProblemError,
    Unauthorized,
    problem_from_response,
)
from protocol.signatures import Signer, content_digest
from protocol.tensors import MEDIA_TYPE
from trainer.clients.retries import (
    GIVE_UP_AFTER,
    NOT_DONE,
    ServiceFailed,
    ServiceUnreachable,
    may_pass,
    retrying,
    span,
)
from trainer.reports import Report

AWAY_SECONDS = 30.0
"""A service that was away for longer is said to answer again."""
READ_SECONDS = 600.0
"""For the next part of a reply, which a model may have to compute first."""
CONNECT_SECONDS = 10.0

JSON = "application/json"
FAILURES = {500, 502, 504}
"""A service, or a proxy in front of it, failed on a call that may succeed later."""
T = TypeVar("T")


class AddressWrong(Exception):
    """The address of a service is not a URL."""


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
        AddressWrong: The address is not a URL.

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
        self._away: float | None = None  # since when it does not answer
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
        digest = content_digest(call.body or b"") if self.signer else ""
        try:
            result: T = retrying(self.give_up_after, self._failed)(self._once, call, digest, read)
        except httpx.TransportError as error:
            raise ServiceUnreachable(
                f"the {self.name} at {self.url} did not answer for {span(self.give_up_after)} ({_reason(error)}): "
                "it does not run, or the address is not right"
            ) from error
        except ProblemError as refusal:
            if not may_pass(refusal):
                self._answered()
            raise
        self._answered()
        return result

    def _answered(self) -> None:
        if self._away is not None and time.monotonic() - self._away > AWAY_SECONDS:
            self.report(f"the {self.name} at {self.url} answers again")
        self._away = None

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
        error = state.outcome.exception() if state.outcome else None
        assert error is not None
        self.failures += not isinstance(error, Busy)
        self.lost += not isinstance(error, NOT_DONE)
        if self._away is None and not isinstance(error, Busy):
            self._away = time.monotonic()
        if state.attempt_number == 1:
            self.report(
                f"the {self.name} at {self.url} does not answer as it should ({_reason(error)}); trying again for "
                f"{span(self.give_up_after)}"
            )


def _address(name: str, url: str) -> httpx.URL:
    try:
        address = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise AddressWrong(f"the {name}'s address {url!r} is not a URL: {error}") from error
    if address.scheme not in ("http", "https") or not address.host:
        raise AddressWrong(f"the {name}'s address {url!r} is not a URL such as http://127.0.0.1:8000")
    return address


def _clock_off(problem: Unauthorized) -> float | None:
    """Seconds by which this machine's clock is ahead of the service's, where the refusal states its time."""
    try:
        return time.time() - datetime.fromisoformat(problem.extra["server_time"]).timestamp()
    except (KeyError, TypeError, ValueError):
        return None


def _reason(error: BaseException) -> str:
    return str(error) or type(error).__name__
