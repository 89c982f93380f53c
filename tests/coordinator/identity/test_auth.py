from pathlib import Path

import pytest

from services.coordinator.app import build_app
from services.coordinator.settings import CoordinatorSettings
from services.coordinator.store.store import open_store

from ..support import INVITATION, OPERATOR, Server, bearer, members

ROLES = {
    ("DELETE", "/clients/{client}"): {"operator"},
    ("POST", "/clients"): {"invitee"},
    ("POST", "/round"): {"operator"},
    ("POST", "/round/stop"): {"operator"},
    ("GET", "/round"): {"client", "operator"},
    ("GET", "/rounds"): {"client", "operator"},
    ("GET", "/round/{number}/embeddings"): {"client"},
    ("PUT", "/round/{number}/update"): {"client"},
    ("PUT", "/round/{number}/evaluation"): {"client"},
}
OPEN = {"/health", "/ready"}


def routes(tmp_path: Path) -> set[tuple[str, str]]:
    settings = CoordinatorSettings.model_validate({"operator_token": OPERATOR, "invitation_token": INVITATION})
    store = open_store(tmp_path)
    app = build_app(settings, store)
    store.database.close()
    paths = app.openapi()["paths"]
    return {(method.upper(), path) for path, methods in paths.items() for method in methods if path not in OPEN}


def test_every_route_is_listed_with_who_may_call_it(tmp_path: Path) -> None:
    assert routes(tmp_path) == set(ROLES)


@pytest.mark.parametrize(("method", "path"), ROLES)
def test_who_may_call_a_route(shared_server: Server, method: str, path: str) -> None:
    (member,) = members(1)
    shared_server.join(member)
    tokens = {"client": member.secret, "operator": OPERATOR, "invitee": INVITATION}
    for role, token in tokens.items():
        reply = shared_server.http.request(method, path.format(number=1, client="nobody"), headers=bearer(token))
        assert (reply.status_code == 403) == (role not in ROLES[method, path]), role
        assert reply.status_code != 401


@pytest.mark.parametrize(("method", "path"), ROLES)
@pytest.mark.parametrize("header", [None, "Bearer unknown", "Bearer", "Basic b3A6b3A=", "Bearer \xff\xfe", "nonsense"])
def test_without_a_known_token(shared_server: Server, method: str, path: str, header: str | None) -> None:
    headers = {} if header is None else {"authorization": header.encode("latin-1")}
    reply = shared_server.http.request(method, path.format(number=1, client="nobody"), headers=headers)
    assert (reply.status_code, reply.headers["www-authenticate"]) == (401, "Bearer")
    assert reply.headers["content-type"] == "application/problem+json"


def test_the_old_secret_stops(shared_server: Server) -> None:
    (member,) = members(1)
    shared_server.join(member)
    old = member.secret
    shared_server.join(member)
    assert shared_server.http.get("/round", headers=bearer(old)).status_code == 401
    assert shared_server.view(member.secret).clients == 1
