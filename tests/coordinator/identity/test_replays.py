"""Signatures are of now, of one request, and taken once: clocks that are off, captured and changed requests."""

import asyncio
import hashlib
import re
import socket
import time
from datetime import datetime

import httpx
import pytest
from starlette.requests import Request

from protocol.problems import Unauthorized
from protocol.signatures import Signer, content_digest
from services.coordinator.identity.gate import Gate
from services.coordinator.settings import CoordinatorSettings

from ..support import INVITATION, OPERATOR, Local, Member, Server, members, signer

WINDOW = 60


@pytest.fixture(scope="module")
def member(shared_server: Server) -> Member:
    (one,) = members(2)
    shared_server.join(one)
    return one


@pytest.fixture
def gate(local: Local) -> Gate:
    (one,) = members(2)
    local.join(one)
    tokens = {"operator_token": OPERATOR, "invitation_token": INVITATION}
    return Gate(CoordinatorSettings.model_validate(tokens | {"clock_window_seconds": WINDOW}), local.store)


def look(now: float, name: str = "m0") -> Request:
    """`GET /round`, signed at that time."""
    headers = Signer(signer(name)._private, lambda: now).headers("GET", "http://coordinator/round", content_digest(b""))
    raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    return Request({"type": "http", "method": "GET", "path": "/round", "query_string": b"", "headers": raw})


@pytest.mark.parametrize("off", [-WINDOW, -WINDOW + 1, WINDOW - 1, WINDOW])
def test_a_clock_that_is_off_by_the_window_or_less(local: Local, gate: Gate, off: float) -> None:
    assert asyncio.run(gate.client(look(local.clock.now + off))) == signer("m0").key_id


@pytest.mark.parametrize(
    ("off", "said"), [(-WINDOW - 1, "61 s behind"), (WINDOW + 1, "61 s ahead of"), (-1e6, "1000000 s behind")]
)
def test_a_clock_that_is_off_by_more(local: Local, gate: Gate, off: float, said: str) -> None:
    with pytest.raises(Unauthorized, match=said) as refusal:
        asyncio.run(gate.client(look(local.clock.now + off)))
    assert datetime.fromisoformat(refusal.value.extra["server_time"]).timestamp() == local.clock.now


def test_the_server_s_time_is_in_the_problem(shared_server: Server, member: Member) -> None:
    late = Signer(member.signer._private, lambda: time.time() - WINDOW - 5)
    problem = shared_server.signed(late, "GET", "/round").json()
    assert (problem["status"], "behind" in problem["detail"]) == (401, True)
    assert problem["server_time"].endswith("+00:00")
    assert abs(time.time() - datetime.fromisoformat(problem["server_time"]).timestamp()) < 30


def test_a_nonce_is_remembered_for_as_long_as_its_signature_is_of_now(local: Local, gate: Gate) -> None:
    captured = look(local.clock.now + WINDOW)  # by a clock that is as far ahead as is allowed

    async def send(request: Request) -> str:
        return await gate.client(Request({**request.scope, "state": {}}))

    async def replay() -> None:
        await send(captured)
        local.clock.now += 2 * WINDOW
        await send(look(local.clock.now))  # expired nonces are purged with it
        with pytest.raises(Unauthorized, match="taken before"):
            await send(captured)
        local.clock.now += 1
        with pytest.raises(Unauthorized, match="behind"):
            await send(captured)

    asyncio.run(replay())


def resent(server: Server, request: httpx.Request, **changes: object) -> httpx.Response:
    """The captured request again, with a part of it exchanged."""
    parts = {"method": request.method, "url": request.url, "headers": request.headers, "content": request.content}
    parts |= changes
    return server.http.send(httpx.Request(**parts))  # type: ignore[arg-type]  # parts of a request


def test_a_captured_request_is_of_no_use(server: Server) -> None:
    one, two = members(2, 2)
    server.join(one, two)
    server.begin(clients=2)
    server.until(1, "training")
    body = one.trained(server.share(one, 1))
    request = server.request(one, "PUT", "/round/1/update", body, "application/safetensors")
    # Before it arrives: whoever holds it back and changes it is refused.
    other = one.trained(server.share(one, 1), 9.0)
    base = str(request.url).removesuffix("/round/1/update")
    assert resent(server, request, content=other, headers=_without_length(request)).status_code == 401
    request = server.request(one, "PUT", "/round/1/update", body, "application/safetensors")
    swapped = httpx.Headers(request.headers)
    swapped["content-digest"] = content_digest(other)
    assert resent(server, request, content=other, headers=_without_length(swapped)).status_code == 401
    for changes in (
        {"url": base + "/round/1/evaluation"},
        {"url": base + "/round/2/update"},
        {"url": base + "/round/1/update?x=1"},
        {"method": "POST", "url": base + "/round"},
        {"method": "DELETE", "url": base + f"/clients/{one.id}"},
    ):
        assert resent(server, request, **changes).status_code in (401, 405), changes
    # It arrives, and is sent again: as it was, and after a restart.
    assert server.http.send(request).status_code == 201
    again = resent(server, request)
    assert (again.status_code, "was taken before" in again.text) == (401, True)
    server.stop()
    server.close_connections()
    server.start()
    url = str(server.http.base_url).rstrip("/") + "/round/1/update"
    assert resent(server, request, url=url).status_code == 401
    assert server.put_update(one, 1, body).status_code == 200


def _without_length(request: httpx.Request | httpx.Headers) -> dict[str, str]:
    headers = request.headers if isinstance(request, httpx.Request) else request
    return {name: value for name, value in headers.items() if name != "content-length"}


def test_a_body_that_was_not_signed(shared_server: Server, member: Member) -> None:
    request = shared_server.request(member, "PUT", "/round/1/evaluation", b"{}")
    reply = resent(shared_server, request, content=b"[]")
    assert (reply.status_code, "not the one that was signed" in reply.text) == (401, True)
    assert hashlib.sha256(b"{}").hexdigest() not in reply.text


@pytest.mark.parametrize("forged_first", [True, False])
@pytest.mark.parametrize("name", ["content-digest", "signature-input", "signature"])
def test_a_header_that_is_there_twice(shared_server: Server, member: Member, name: str, forged_first: bool) -> None:
    request = shared_server.request(member, "GET", "/round")
    assert shared_server.http.send(request).status_code == 200
    other = shared_server.request(member, "GET", "/round", b"another body").headers[name]
    if name == "signature-input":  # as a replay with a nonce that is new
        other = re.sub('nonce="[^"]*"', 'nonce="AAAAAAAAAAAAAAAAAAAAAAAA"', request.headers[name])
    raw = [pair for pair in request.headers.raw if pair[0].lower() != name.encode()]
    twice = [other, request.headers[name]] if forged_first else [request.headers[name], other]
    reply = resent(shared_server, request, headers=raw + [(name.encode(), value.encode()) for value in twice])
    assert (reply.status_code, "was taken before" in reply.text) == (401, False)


@pytest.mark.parametrize(("method", "path", "status"), [("POST", "/clients", 403), ("PUT", "/round/1/update", 401)])
def test_a_stranger_s_body_is_not_waited_for(shared_server: Server, method: str, path: str, status: int) -> None:
    body = b"{}" * 50_000
    request = shared_server.request(signer("stranger"), method, path, body)
    head = f"{method} {path} HTTP/1.1\r\n" + "".join(f"{n}: {v}\r\n" for n, v in request.headers.items()) + "\r\n"
    address = (request.url.host, request.url.port or 80)
    with socket.create_connection(address, timeout=20) as connection:
        connection.sendall(head.encode())
        assert connection.recv(12) == f"HTTP/1.1 {status}".encode()
