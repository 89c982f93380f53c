"""Who is let through, over HTTP: every route, forged signatures, headers of any bytes; what is told of secrets."""

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import IO

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from protocol.signatures import content_digest
from services.coordinator.app import build_app
from services.coordinator.settings import CoordinatorSettings
from services.coordinator.store.store import open_store

from ..support import (
    INVITATION,
    OPERATOR,
    ROOT,
    Member,
    Server,
    bearer,
    free_port,
    members,
    settings_of,
    signer,
)

ROLES = {
    ("POST", "/clients"): {"invited"},
    ("GET", "/clients"): {"operator"},
    ("DELETE", "/clients/{client}"): {"operator", "client"},
    ("PUT", "/clients/{client}/key"): {"client"},
    ("POST", "/round"): {"operator"},
    ("POST", "/round/pause"): {"operator"},
    ("POST", "/round/resume"): {"operator"},
    ("POST", "/round/stop"): {"operator"},
    ("GET", "/round"): {"client", "operator"},
    ("GET", "/rounds"): {"client", "operator"},
    ("GET", "/curves"): {"operator"},
    ("POST", "/session/pass"): {"operator"},
    ("GET", "/model"): {"operator"},
    ("GET", "/audit"): {"operator"},
    ("GET", "/round/{number}/embeddings"): {"client"},
    ("PUT", "/round/{number}/update"): {"client"},
    ("PUT", "/round/{number}/evaluation"): {"client"},
}
OPEN = {"/health", "/ready", "/metrics", "/problems/{kind}"}
BROWSERS = {"/", "/session", "/events"}
"""Tested with the page and with sessions: two let people in, the third never ends."""


def routes(tmp_path: Path) -> set[tuple[str, str]]:
    chosen = CoordinatorSettings.model_validate({"operator_token": OPERATOR, "invitation_token": INVITATION})
    store = open_store(tmp_path)
    app = build_app(chosen, store)
    store.database.close()
    paths = app.openapi()["paths"]
    asked = {path: methods for path, methods in paths.items() if path not in OPEN | BROWSERS}
    return {(method.upper(), path) for path, methods in asked.items() for method in methods}


@pytest.fixture(scope="module")
def member(shared_server: Server) -> Member:
    (one,) = members(2)
    shared_server.join(one)
    return one


def test_every_route_is_listed_with_who_may_call_it(tmp_path: Path) -> None:
    assert routes(tmp_path) == set(ROLES)


def refused(reply: httpx.Response) -> bool:
    """Whether the caller's role was; a client that may call the route for itself is told so."""
    for_itself = "itself only" in reply.text or "its own key only" in reply.text
    return reply.status_code == 401 or (reply.status_code == 403 and not for_itself)


@pytest.mark.parametrize(("method", "template"), ROLES)
def test_who_may_call_a_route(shared_server: Server, member: Member, method: str, template: str) -> None:
    path = template.format(number=1, client="nobody")
    body = b"{}" if method in ("POST", "PUT") else b""
    calls = {
        "client": shared_server.signed(member, method, path, body),
        "operator": shared_server.http.request(method, path, headers=bearer(OPERATOR), content=body),
        "invited": shared_server.signed(signer("new"), method, path, body, headers=bearer(INVITATION)),
    }
    assert {role for role, reply in calls.items() if not refused(reply)} == ROLES[method, template]
    assert all(reply.status_code < 500 for reply in calls.values())


@pytest.mark.parametrize(("method", "path"), ROLES)
@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": "Bearer unknown"},
        {"authorization": "Bearer"},
        {"authorization": "Basic b3A6b3A="},
        {"authorization": "Bearer \xff\xfe"},
        {"authorization": "nonsense"},
        {"signature-input": "nonsense"},
        {"signature-input": "\xff=()", "signature": "\xff"},
    ],
)
def test_without_a_token_or_a_signature(shared_server: Server, method: str, path: str, headers: dict[str, str]) -> None:
    encoded = {name: value.encode("latin-1") for name, value in headers.items()}
    reply = shared_server.http.request(method, path.format(number=1, client="nobody"), headers=encoded)
    assert reply.status_code == 401
    assert "www-authenticate" in reply.headers
    assert reply.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(("method", "path"), [route for route, roles in ROLES.items() if "client" in roles])
def test_a_key_that_nobody_knows(shared_server: Server, method: str, path: str) -> None:
    reply = shared_server.signed(signer("unknown"), method, path.format(number=1, client="nobody"))
    assert (reply.status_code, reply.json()["key"]) == (401, signer("unknown").key_id)


@pytest.mark.parametrize(("method", "path"), [route for route, roles in ROLES.items() if "client" in roles])
def test_a_forged_signature_in_a_member_s_name(shared_server: Server, member: Member, method: str, path: str) -> None:
    path = path.format(number=1, client=member.id)
    request = shared_server.request(signer("attacker"), method, path)
    request.headers["signature-input"] = request.headers["signature-input"].replace(
        signer("attacker").key_id, member.id
    )
    assert shared_server.http.send(request).status_code == 401
    assert shared_server.view(member).clients >= 1


def test_a_removed_member_is_refused_on_every_route_and_cannot_join_again(server: Server) -> None:
    one, two = members(2, 2)
    server.join(one, two)
    assert server.operator("DELETE", f"/clients/{one.id}").status_code == 204
    for (method, path), roles in ROLES.items():
        if "client" in roles:
            reply = server.signed(one, method, path.format(number=1, client=one.id), b"{}" if method == "PUT" else b"")
            assert (reply.status_code, "removed by an operator" in reply.text) == (403, True), path
    assert server.put_join(one).status_code == 403
    assert server.view(two).clients == 1
    assert server.operator("DELETE", f"/clients/{one.id}").status_code == 404


FIELDS = st.sampled_from(["signature", "signature-input", "content-digest", "authorization"])
# Control characters, and spaces around a value, are the HTTP client's and server's to refuse.
BYTES = st.binary(max_size=80).map(lambda b: bytes(byte for byte in b if byte >= 32 and byte != 127).strip())


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(FIELDS, BYTES)
def test_headers_of_any_bytes_never_fail_the_service(
    shared_server: Server, member: Member, name: str, value: bytes
) -> None:
    request = shared_server.request(member, "GET", "/round")
    headers = [(n, v) for n, v in request.headers.raw if n.lower() != name.encode()] + [(name.encode(), value)]
    reply = shared_server.http.send(httpx.Request("GET", request.url, headers=headers))
    assert reply.status_code in (401, 403) or (name == "authorization" and reply.status_code == 200)


def test_secrets_are_in_no_log_and_no_reply(tmp_path: Path) -> None:
    (one,), wrong, port = members(2), "a-token-that-is-nobody-s", free_port()
    log = tmp_path / "log"
    with log.open("wb") as output, httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False) as http:
        process = logging_everything(port, tmp_path / "data", output)
        try:
            wait_for(http, process)
            body = one.request().model_dump_json().encode()
            calls: list[tuple[str, str, bytes, str | None]] = [
                ("POST", "/clients", body, wrong),
                ("POST", "/clients", body, INVITATION),
                ("GET", "/round", b"", None),
                ("GET", "/round", b"", wrong),
                ("GET", "/clients", b"", OPERATOR),
                ("GET", "/clients", b"", INVITATION),
            ]
            replies = [signed_and_sent(http, one, *call) for call in calls]
        finally:
            process.terminate()
            process.wait(20)
    assert [reply.status_code for reply in replies] == [403, 201, 200, 401, 200, 401]
    told = log.read_text() + "".join(reply.text + str(reply.headers) for reply in replies)
    assert log.read_text().count('"/clients"') == 4  # the log has the requests
    signatures = [reply.request.headers["signature"].removeprefix("sig=:") for reply in replies]
    for secret in (OPERATOR, INVITATION, wrong, *signatures):
        assert secret not in told


def logging_everything(port: int, data_dir: Path, output: IO[bytes]) -> "subprocess.Popen[bytes]":
    target = ["services.coordinator.app:create_app", "--factory", "--port", str(port), "--log-level", "debug"]
    return subprocess.Popen(
        [sys.executable, "-m", "uvicorn", *target],
        env=os.environ | {"PYTHONPATH": str(ROOT)} | settings_of(data_dir),
        stdout=output,
        stderr=subprocess.STDOUT,
    )


def wait_for(http: httpx.Client, process: "subprocess.Popen[bytes]") -> None:
    until = time.monotonic() + 30
    while time.monotonic() < until and process.poll() is None:
        try:
            if http.get("/ready").is_success:
                return
        except httpx.TransportError:
            time.sleep(0.05)
    raise RuntimeError("the server did not become ready")


def signed_and_sent(
    http: httpx.Client, member: Member, method: str, path: str, body: bytes, token: str | None
) -> httpx.Response:
    headers = member.signer.headers(method, f"{http.base_url}{path}", content_digest(body))
    headers |= {"content-type": "application/json"} | (bearer(token) if token else {})
    return http.request(method, path, content=body or None, headers=headers)
