import json
import pickle
import threading
import time
from collections.abc import Iterator

import httpx
import numpy as np
import pytest

from ..support import (
    INVITATION,
    JSON,
    LIMIT,
    OPERATOR,
    SAFETENSORS,
    Member,
    Server,
    bearer,
    evaluation,
    members,
    signer,
)

PROBLEM = "application/problem+json"
STRANGER = signer("a stranger")
JOIN = {
    "name": "a",
    "public_key": STRANGER.public_key,
    "entities": ["b" * 64],
    "triples": {"train": 1, "valid": 0, "test": 0},
}


@pytest.fixture(scope="module")
def member(shared_server: Server) -> Member:
    """One of two clients of a training in which nobody has answered yet; the module's tests leave it so."""
    one, two = members(3, 3)
    shared_server.join(one, two)
    shared_server.begin(clients=2, dense={"w": {"shape": [2], "init": 0.1}})
    shared_server.until(1, "training")
    return one


def test_a_training_over_http(server: Server) -> None:
    crowd = members(3, 4, 5)
    server.join(*crowd)
    training = server.begin(clients=3, rounds=4, evaluate_every=2)
    view = server.run(crowd)
    assert (view.phase, view.round, view.best_version) == ("finished", 5, 5)
    reply = server.put_evaluation(crowd[0], 5, evaluation(0.7, mode="fusion", split="test"))
    assert reply.status_code == 201
    history = server.signed(crowd[0], "GET", "/rounds").json()
    assert [each["round"] for each in history["rounds"]] == [5, 4, 3, 2, 1]
    assert history["trainings"][0]["training"] == training
    for mean in ("sides", "macro"):
        assert history["rounds"][0]["evaluations"][0][mean]["both"]["hits@1"] == pytest.approx(0.025)


def test_a_long_poll_wakes_at_once(server: Server) -> None:
    (one,) = members(2)
    server.join(one)
    delays = []
    for _ in range(3):
        event = server.view(one).event
        woken: list[float] = []

        def wait(event: int = event, woken: list[float] = woken) -> None:
            server.view(wait=20, after=event)
            woken.append(time.monotonic())

        waiter = threading.Thread(target=wait)
        waiter.start()
        time.sleep(0.2)
        start = time.monotonic()
        server.join(one)
        waiter.join(20)
        delays.append(woken[0] - start)
    assert min(delays) < 0.5  # the fastest, since the machine may be busy; well under the worker's own second


def test_a_long_poll_ends_when_its_time_is_up(shared_server: Server, member: Member) -> None:
    event = shared_server.view(member).event
    start = time.monotonic()
    assert shared_server.view(member, wait=0.3, after=event).event == event
    assert 0.25 < time.monotonic() - start < 2
    assert shared_server.view(member, wait=20, after=event - 1).event == event


def test_an_update_and_its_repetition(server: Server) -> None:
    one, two = members(2, 2)
    server.join(one, two)
    server.begin(clients=2)
    server.until(1, "training")
    body = one.trained(server.share(one, 1))
    replies = [server.put_update(one, 1, body) for _ in range(2)]
    assert [reply.status_code for reply in replies] == [201, 200]
    assert replies[0].json() == replies[1].json()
    other = server.put_update(one, 1, one.trained(server.share(one, 1), 7.0))
    assert (other.status_code, other.json()["current_round"]) == (409, 1)
    assert server.put_update(one, 5, body).json()["current_round"] == 1


def test_the_last_two_updates_race(server: Server) -> None:
    crowd = members(*[8] * 6)
    server.join(*crowd)
    server.begin(clients=6, rounds=1)
    server.until(1, "training")
    bodies = [(member, member.trained(server.share(member, 1))) for member in crowd]
    threads = [threading.Thread(target=server.put_update, args=(member, 1, body)) for member, body in bodies]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    server.until(2, "evaluating")
    rounds = server.operator("GET", "/rounds").json()["rounds"]
    assert [(each["round"], each["updates"]) for each in rounds] == [(2, 0), (1, 6)]


def test_a_value_that_is_not_finite(shared_server: Server, member: Member) -> None:
    share = shared_server.share(member, 1)
    share["entities"] = share["entities"] * np.float32("nan")
    reply = shared_server.put_update(member, 1, member.body(share))
    assert (reply.status_code, reply.headers["content-type"]) == (422, PROBLEM)
    assert reply.json()["errors"][0]["field"] == "entities"
    counted = 'refusals_total{reason="invalid-request",route="/round/{number}/update"}'
    assert counted in shared_server.http.get("/metrics").text


class Canary:
    def __reduce__(self) -> tuple[object, ...]:
        return (exec, ("raise SystemExit('a pickle was run')",))


BODIES = [pickle.dumps(Canary()), b"", b"\xff" * 64, b"\x02\0\0\0\0\0\0\0[]", b"PK\3\4" + b"\0" * 60]


@pytest.mark.parametrize("body", BODIES)
def test_what_is_no_safetensors_is_refused(shared_server: Server, member: Member, body: bytes) -> None:
    assert shared_server.put_update(member, 1, body).status_code == 422


def call(server: Server, member: Member, method: str, path: str, body: bytes, kind: str) -> httpx.Response:
    """As whoever may: the operator, an invited stranger or the member."""
    if (method, path) == ("POST", "/round"):
        return server.http.request(method, path, headers=bearer(OPERATOR) | {"content-type": kind}, content=body)
    if path == "/clients":
        return server.signed(STRANGER, method, path, body, kind, bearer(INVITATION))
    return server.signed(member, method, path, body, kind)


@pytest.mark.parametrize(
    ("method", "path", "kind"),
    [
        ("POST", "/clients", SAFETENSORS["content-type"]),
        ("POST", "/round", "text/plain"),
        ("PUT", "/round/1/update", JSON["content-type"]),
        ("PUT", "/round/1/update", "application/octet-stream"),
        ("PUT", "/round/1/evaluation", "nonsense"),
    ],
)
def test_other_media_types(shared_server: Server, member: Member, method: str, path: str, kind: str) -> None:
    reply = call(shared_server, member, method, path, b"{}", kind)
    assert (reply.status_code, reply.headers["content-type"]) == (415, PROBLEM)


@pytest.mark.parametrize("path", ["/clients", "/round", "/round/1/update", "/round/1/evaluation"])
def test_an_oversized_body_is_refused_however_it_is_sent(shared_server: Server, member: Member, path: str) -> None:
    kind = (SAFETENSORS if path.endswith("update") else JSON)["content-type"]
    method = "PUT" if path.startswith("/round/") else "POST"
    reply = call(shared_server, member, method, path, b"\0" * (LIMIT + 1), kind)
    assert (reply.status_code, reply.headers["content-type"]) == (413, PROBLEM)


def test_an_oversized_update_in_chunks(shared_server: Server, member: Member) -> None:
    request = shared_server.request(member, "PUT", "/round/1/update", b"\0", SAFETENSORS["content-type"])
    headers = {name: value for name, value in request.headers.items() if name != "content-length"}

    def chunks() -> Iterator[bytes]:
        for _ in range(40):
            yield b"\0" * (LIMIT // 32)

    reply = shared_server.http.put("/round/1/update", headers=headers, content=chunks())
    assert (reply.status_code, reply.headers["content-type"]) == (413, PROBLEM)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nothing", 404),
        ("DELETE", "/round", 405),
        ("GET", "/round/x/embeddings", 422),
        ("GET", "/round/0/embeddings", 422),
        ("GET", f"/round/{1 << 70}/embeddings", 422),
        ("GET", "/round/7/embeddings", 404),
        ("GET", "/round?wait=nan", 422),
        ("GET", "/round?after=x", 422),
        ("GET", "/rounds?limit=0", 422),
        ("GET", "/rounds?training=none", 404),
        ("GET", "/rounds?before=99999999999999999999", 422),
    ],
)
def test_refusals_are_problem_documents(
    shared_server: Server, member: Member, method: str, path: str, status: int
) -> None:
    reply = shared_server.signed(member, method, path)
    assert (reply.status_code, reply.headers["content-type"]) == (status, PROBLEM)
    assert reply.json()["status"] == status


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("/round", {"interaction": "nonsense"}, "interaction"),
        ("/round", {"interaction": "transe", "dense": {"w": {"shape": [1 << 20]}}}, "dense"),
        ("/round", {"interaction": "transe", "share": "both"}, "relation_dim"),
        ("/clients", JOIN | {"entities": ["b" * 64] * 2}, "entities"),
        ("/clients", JOIN | {"entities": []}, "entities"),
        ("/clients", JOIN | {"triples": {"train": 1 << 70, "valid": 0, "test": 0}}, "triples.train"),
    ],
)
def test_the_field_at_fault_is_named(
    shared_server: Server, member: Member, path: str, body: object, field: str
) -> None:
    reply = call(shared_server, member, "POST", path, json.dumps(body).encode(), "application/json")
    assert reply.status_code == 422
    assert field in reply.json()["errors"][0]["field"] + reply.json()["errors"][0]["message"]


def test_a_second_training_is_refused_while_one_runs(shared_server: Server, member: Member) -> None:
    reply = shared_server.operator("POST", "/round", {"interaction": "transe"})
    assert reply.status_code == 409
    assert reply.json()["training"] == shared_server.view().training


def test_a_share_that_is_there_already_is_not_sent_again(shared_server: Server, member: Member) -> None:
    first = shared_server.signed(member, "GET", "/round/1/embeddings")
    etag = first.headers["etag"]
    again = shared_server.signed(member, "GET", "/round/1/embeddings", headers={"if-none-match": etag})
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", etag)
    other = shared_server.signed(member, "GET", "/round/1/embeddings", headers={"if-none-match": '"other"'})
    assert (other.status_code, other.content) == (200, first.content)


def test_who_has_answered_is_never_told_to_answer_again(server: Server) -> None:
    crowd = members(*[20] * 4)
    server.join(*crowd)
    server.begin(clients=4, rounds=6, evaluate_every=6)
    told = []

    def take_part(member: Member) -> None:
        """As a client does that asks for what comes after what it has seen."""
        view, sent = server.view(member), 0
        while sent < 6:
            if view.phase == "training" and view.selected and not view.answered:
                assert view.round is not None
                reply = server.put_update(member, view.round, member.trained(server.share(member, view.round)))
                told.append(reply.status_code)
                sent += reply.status_code == 201
            view = server.view(member, wait=20, after=view.event)

    threads = [threading.Thread(target=take_part, args=(member,)) for member in crowd]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert told == [201] * 24
