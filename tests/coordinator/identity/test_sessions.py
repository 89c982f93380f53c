"""Sessions of browsers, over real HTTP."""

from datetime import UTC, datetime, timedelta

import httpx
import pytest

from protocol.problems import Unauthorized
from services.coordinator.identity.sessions import COOKIE, OPERATOR_SECONDS, VIEWER_SECONDS, Sessions
from tests.coordinator.support import JSON, OPERATOR, Clock, Server, members

PAGE = {"tripleherd-page": "1"}


def session_of(server: Server, token: str = OPERATOR) -> httpx.Response:
    return server.http.post("/session", json={"token": token})


def cookie(reply: httpx.Response) -> dict[str, str]:
    assert reply.status_code == 201, reply.text
    server_cookies = reply.headers["set-cookie"]
    assert "HttpOnly" in server_cookies
    assert "SameSite=lax" in server_cookies
    value = reply.cookies[COOKIE]
    return {"cookie": f"{COOKIE}={value}"}


def test_a_stranger_s_body_is_no_longer_than_a_token(server: Server) -> None:
    assert session_of(server, "x" * 10_000).status_code == 413


def test_a_session_speaks_for_an_operator(server: Server) -> None:
    headers = cookie(session_of(server))
    server.http.cookies.clear()
    assert server.http.get("/clients", headers=headers).status_code == 200
    assert server.http.get("/clients").status_code == 401


def test_what_changes_something_needs_the_header_that_no_other_site_can_send(server: Server) -> None:
    headers = cookie(session_of(server))
    server.http.cookies.clear()
    server.begin()
    refused = server.http.post("/round/pause", headers=headers)
    assert refused.status_code == 403
    assert "Tripleherd-Page" in refused.json()["detail"]
    assert server.http.post("/round/pause", headers=headers | PAGE).status_code == 200


def test_the_cookie_is_for_https_alone_where_it_came_by_https(server: Server) -> None:
    proxied = server.http.post("/session", json={"token": OPERATOR}, headers={"x-forwarded-proto": "https"})
    assert "Secure" in proxied.headers["set-cookie"]
    assert "Secure" not in session_of(server).headers["set-cookie"]


def test_a_pass_lets_somebody_watch_and_change_nothing(server: Server) -> None:
    crowd = members(2, 2)
    server.join(*crowd)
    training = server.begin(clients=2)
    made = server.operator("POST", "/session/pass").json()
    left = datetime.fromisoformat(made["expires"]) - datetime.now(UTC)
    assert timedelta(days=6, hours=23) < left <= timedelta(days=7, seconds=2)
    reply = session_of(server, made["token"])
    assert reply.json()["role"] == "viewer"
    headers = cookie(reply) | PAGE
    server.http.cookies.clear()
    for path in ("/", "/curves", "/rounds", "/round"):
        assert server.http.get(path, headers=headers).status_code == 200, path
    steering = [
        ("GET", "/clients"),
        ("GET", "/model"),
        ("GET", "/audit"),
        ("POST", "/round/pause"),
        ("POST", "/round/stop"),
        ("POST", "/session/pass"),
        ("DELETE", f"/clients/{crowd[0].id}"),
        ("GET", "/round/1/embeddings"),
    ]
    for method, path in steering:
        assert server.http.request(method, path, headers=headers).status_code == 403, path
    assert server.http.post("/round", json={"interaction": "transe"}, headers=headers).status_code == 403
    assert server.view().training == training


@pytest.mark.parametrize(
    "token", ["", "x", "no token of anybody's here", "operator.99999999999.00", "viewer..", "é" * 40]
)
def test_other_words_are_no_token(server: Server, token: str) -> None:
    reply = session_of(server, token)
    assert reply.status_code == 401
    assert "set-cookie" not in reply.headers
    assert token == "" or token not in reply.text


def test_a_body_that_is_no_token_is_refused_by_its_field(server: Server) -> None:
    for body in (b"{}", b'{"token": 1}', b'{"token": "' + b"x" * 1001 + b'"}'):
        reply = server.http.post("/session", content=body, headers=JSON)
        assert reply.status_code == 422
        assert "token" in reply.text
    assert server.http.post("/session", content=b"token=x").status_code == 415


def test_clients_do_not_watch_the_page(server: Server) -> None:
    (member,) = members(2)
    server.join(member)
    for path in ("/curves", "/events"):
        assert server.signed(member, "GET", path).status_code == 403


def sessions(token: bytes = b"the operators' token", clock: Clock | None = None) -> Sessions:
    return Sessions(token, clock or Clock())


def test_sessions_expire() -> None:
    clock = Clock()
    made = sessions(clock=clock)
    operator, viewer = made.open("the operators' token"), made.viewer()
    clock.now += OPERATOR_SECONDS - 1
    assert made.read(operator.value) == operator
    clock.now += 2
    assert made.read(operator.value) is None
    assert made.open(viewer.value).role == "viewer"
    clock.now += VIEWER_SECONDS
    with pytest.raises(Unauthorized):
        made.open(viewer.value)


def test_a_session_is_taken_by_who_has_the_token_and_by_nobody_else() -> None:
    value = sessions().viewer().value
    assert sessions().read(value) is not None  # another coordinator, or this one started anew
    assert sessions(b"another operators' token").read(value) is None


def test_a_viewer_cannot_make_an_operator_of_himself() -> None:
    made = sessions()
    _, expires, mac = made.viewer().value.split(".")
    assert made.read(f"operator.{expires}.{mac}") is None
    assert made.read(f"viewer.{int(expires) + 1}.{mac}") is None
    assert made.read(f"viewer.{expires}.{mac}") is not None
    with pytest.raises(Unauthorized):
        made.open(made.open("the operators' token").value)  # an operator's session is no pass for another browser
