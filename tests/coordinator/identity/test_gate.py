"""Who is let through, over HTTP: every route, forged and replayed requests, clocks that are off."""

import hashlib
import json
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from protocol.signatures import Signer, content_digest
from services.coordinator.app import build_app
from services.coordinator.settings import CoordinatorSettings
from services.coordinator.store.store import open_store

from ..support import INVITATION, OPERATOR, Member, Server, bearer, members, signer

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
    ("GET", "/model"): {"operator"},
    ("GET", "/audit"): {"operator"},
    ("GET", "/round/{number}/embeddings"): {"client"},
    ("PUT", "/round/{number}/update"): {"client"},
    ("PUT", "/round/{number}/evaluation"): {"client"},
}
OPEN = {"/health", "/ready", "/metrics"}
WINDOW = 60


def routes(tmp_path: Path) -> set[tuple[str, str]]:
    chosen = CoordinatorSettings.model_validate({"operator_token": OPERATOR, "invitation_token": INVITATION})
    store = open_store(tmp_path)
    app = build_app(chosen, store)
    store.database.close()
    paths = app.openapi()["paths"]
    return {(method.upper(), path) for path, methods in paths.items() for method in methods if path not in OPEN}


def at(seconds: float, name: str = "m0") -> Signer:
    """The member's key with a clock that is off."""
    key = signer(name)
    return Signer(key._private, lambda: time.time() + seconds)


@pytest.fixture(scope="module")
def member(shared_server: Server) -> Member:
    (one,) = members(2)
    shared_server.join(one)
    return one


def test_every_route_is_listed_with_who_may_call_it(tmp_path: Path) -> None:
    assert routes(tmp_path) == set(ROLES)


@pytest.mark.parametrize(("method", "path"), ROLES)
def test_who_may_call_a_route(shared_server: Server, member: Member, method: str, path: str) -> None:
    path = path.format(number=1, client="nobody")
    body = b"{}" if method in ("POST", "PUT") else b""
    calls = {
        "client": shared_server.signed(member, method, path, body),
        "operator": shared_server.http.request(method, path, headers=bearer(OPERATOR), content=body),
        "invited": shared_server.signed(signer("new"), method, path, body, headers=bearer(INVITATION)),
    }
    roles = ROLES[method, path.replace("nobody", "{client}").replace("/1/", "/{number}/")]
    for role, reply in calls.items():
        let_in = reply.status_code not in (401, 403) or "a client can" in reply.text
        assert let_in == (role in roles), (role, reply.text)


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


def test_a_member_cannot_act_for_another(shared_server: Server, member: Member) -> None:
    other = Member("other", ["x"])
    shared_server.join(other)
    assert shared_server.signed(member, "DELETE", f"/clients/{other.id}").status_code == 403
    new = signer("taken over")
    body = json.dumps({"public_key": new.public_key, "proof": new.prove(other.id)}).encode()
    assert shared_server.signed(member, "PUT", f"/clients/{other.id}/key", body).status_code == 403
    assert shared_server.view(other).clients >= 2


@pytest.mark.parametrize("off", [-WINDOW - 1.5, WINDOW + 1.5])
def test_a_clock_that_is_off_by_more_than_the_window(shared_server: Server, member: Member, off: float) -> None:
    reply = shared_server.signed(at(off), "GET", "/round")
    assert reply.status_code == 401
    problem = reply.json()
    assert ("ahead of" if off > 0 else "behind") in problem["detail"]
    assert abs(time.time() - _seconds(problem["server_time"])) < 30


@pytest.mark.parametrize("off", [-WINDOW + 2, WINDOW - 2])
def test_a_clock_that_is_off_by_less(shared_server: Server, member: Member, off: float) -> None:
    assert shared_server.signed(at(off), "GET", "/round").status_code == 200


def _seconds(iso: str) -> float:
    return datetime.fromisoformat(iso).timestamp()


def resent(server: Server, request: httpx.Request, **changes: object) -> httpx.Response:
    """The captured request again, with a part of it exchanged."""
    parts = {"method": request.method, "url": request.url, "headers": request.headers, "content": request.content}
    parts |= changes
    return server.http.send(httpx.Request(**parts))  # type: ignore[arg-type]


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


def test_a_member_that_left_may_come_back(server: Server) -> None:
    (one,) = members(2)
    server.join(one)
    assert server.signed(one, "DELETE", f"/clients/{one.id}").status_code == 204
    reply = server.signed(one, "GET", "/round")
    assert (reply.status_code, "join again" in reply.text) == (403, True)
    server.join(one)
    assert server.view(one).clients == 1


def test_a_rotated_key_speaks_for_the_client_and_the_old_one_no_more(server: Server) -> None:
    one, two = members(2, 2)
    server.join(one, two)
    new = signer("new key")
    path = f"/clients/{one.id}/key"

    def rotation(proof: str, key: str = new.public_key) -> bytes:
        return json.dumps({"public_key": key, "proof": proof}).encode()

    wrong = server.signed(one, "PUT", path, rotation(new.prove(two.id)))
    assert (wrong.status_code, wrong.json()["errors"][0]["field"]) == (422, "proof")
    taken = server.signed(one, "PUT", path, rotation(two.signer.prove(one.id), two.signer.public_key))
    assert taken.status_code == 409
    assert server.signed(one, "PUT", path, rotation(new.prove(one.id))).json() == {"client": one.id}
    assert server.signed(one, "GET", "/round").status_code == 401
    # The reply was lost: with the new key, doing so again changes nothing.
    assert server.signed(new, "PUT", path, rotation(new.prove(one.id))).status_code == 200
    assert server.signed(new, "GET", "/round").status_code == 200
    assert server.put_join(one).status_code == 403
    clients = {each["name"]: each for each in server.operator("GET", "/clients").json()["clients"]}
    assert (clients["m0"]["client"], clients["m0"]["key"]) == (one.id, new.key_id)


def test_the_key_in_a_join_s_body_must_have_signed_it(shared_server: Server) -> None:
    body = Member("victim", ["x"]).request().model_dump_json().encode()
    reply = shared_server.signed(signer("attacker"), "POST", "/clients", body, headers=bearer(INVITATION))
    assert (reply.status_code, "another key" in reply.text) == (401, True)


@pytest.mark.parametrize("token", [None, OPERATOR, "some other token"])
def test_joining_needs_the_invitation(shared_server: Server, token: str | None) -> None:
    reply = shared_server.put_join(Member("stranger", ["x"]), token)
    assert (reply.status_code, reply.json()["key"]) == (403, signer("stranger").key_id)


@pytest.fixture(scope="module")
def listed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Path]]:
    """A coordinator that lets in only who is on its list."""
    folder = tmp_path_factory.mktemp("listed")
    file = folder / "keys"
    file.write_text("")
    environment = {"COORDINATOR_INVITATION_TOKEN": "", "COORDINATOR_ALLOWED_KEYS_FILE": str(file)}
    server = Server(folder / "data", **environment)
    yield server, file
    server.close()


def test_an_allowed_key_joins_without_an_invitation(listed: tuple[Server, Path]) -> None:
    server, file = listed
    one, two = members(1, 1)
    file.write_text(f"# who may join\n\n{one.signer.public_key} north hospital  # since May\n")
    assert server.put_join(one, None).status_code == 201
    refused = server.put_join(two, None)
    assert (refused.status_code, "list" in refused.json()["detail"]) == (403, True)
    assert server.put_join(two, INVITATION).status_code == 403
    file.write_text(f"{one.signer.public_key}\n{two.signer.public_key}\n")
    assert server.put_join(two, None).status_code == 201


def test_a_list_that_cannot_be_read_lets_nobody_in(listed: tuple[Server, Path]) -> None:
    server, file = listed
    third = Member("third", ["x"])
    file.write_text(f"{third.signer.public_key}\nno key at all\n")
    assert server.put_join(third, None).status_code == 503


FIELDS = st.sampled_from(["signature", "signature-input", "content-digest", "authorization"])
# Control characters are the HTTP server's to refuse.
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


def test_a_body_that_was_not_signed(shared_server: Server, member: Member) -> None:
    request = shared_server.request(member, "PUT", "/round/1/evaluation", b"{}")
    reply = resent(shared_server, request, content=b"[]")
    assert (reply.status_code, "not the one that was signed" in reply.text) == (401, True)
    assert hashlib.sha256(b"{}").hexdigest() not in reply.text
