"""Whole servers under what operators meet: a restart under load, a full disk, a lost database, two on one database."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from tests.coordinator.support import Member, Server, members, writable
from tests.disks import fill, small_disk
from tests.postgres import Postgres

pytestmark = pytest.mark.faults

MIB = 1 << 20


def test_a_restart_under_load_loses_no_request_that_was_begun(tmp_path: Path) -> None:
    server = Server(tmp_path)
    crowd = members(*[50] * 8)
    server.join(*crowd)
    server.begin(clients=8, rounds=1, quorum=8, evaluate_every=1)
    server.until(1, "training")
    bodies = {member.id: member.trained(server.share(member, 1)) for member in crowd}
    receipts: dict[str, int] = {}
    stop = threading.Event()

    def insist(member: Member) -> None:
        """Until it is stored, whatever the server does meanwhile: nobody joins again."""
        with httpx.Client(timeout=20, trust_env=False) as http:
            while not stop.is_set():
                request = server.request(member, "PUT", "/round/1/update", bodies[member.id], "application/safetensors")
                with suppress(httpx.TransportError):
                    reply = http.send(request)
                    assert reply.status_code in (200, 201, 409), reply.text
                    receipts[member.id] = reply.status_code
                    if reply.status_code == 409:
                        return
                time.sleep(0.02)

    with ThreadPoolExecutor(8) as pool:
        for member in crowd[:7]:
            pool.submit(insist, member)
        time.sleep(0.5)
        assert server.stop() in (0, -15)
        server.close_connections()
        server.start()
        assert server.put_update(crowd[7], 1, bodies[crowd[7].id]).status_code == 201
        server.until(2, "evaluating")
        stop.set()
    assert set(receipts.values()) <= {200, 201, 409}
    history = server.operator("GET", "/rounds").json()
    assert history["rounds"][-1]["updates"] == 8
    server.close()


@pytest.fixture(name="small_disk")
def disk_of_a_few_updates(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path, 24 * MIB) as disk:
        yield disk


def test_a_full_disk_is_told_and_the_round_goes_on_once_there_is_room(small_disk: Path) -> None:
    server = Server(small_disk / "data", COORDINATOR_MAX_BODY_BYTES=str(16 * MIB))
    one, two = members(2_000, 2_000)
    server.join(one, two)
    server.begin(clients=2, dim=256, rounds=2, evaluate_every=2)
    server.until(1, "training")
    bodies = [member.trained(server.share(member, 1)) for member in (one, two)]
    filler = fill(small_disk)
    reply = server.put_update(one, 1, bodies[0])
    assert (reply.status_code, reply.json()["type"]) == (507, "/problems/storage-full")
    _until(lambda: server.http.get("/ready").status_code in (503, 507))
    assert server.http.get("/health").status_code == 200
    filler.unlink()
    assert [server.put_update(m, 1, b).status_code for m, b in zip((one, two), bodies, strict=True)] == [201, 201]
    server.until(2, "training")
    _until(lambda: server.http.get("/ready").status_code == 200)
    server.close()


def test_a_lost_database_is_told_and_survived(tmp_path: Path, postgres: Postgres) -> None:
    server = Server(tmp_path, COORDINATOR_DATABASE_URL=postgres())
    one, two = members(3, 3)
    server.join(one, two)
    server.begin(clients=2)
    server.until(1, "training")
    body = one.trained(server.share(one, 1))
    postgres.stop()
    try:
        _until(lambda: server.http.get("/ready").status_code == 503)
        reply = server.put_update(one, 1, body)
        assert (reply.status_code, "postgresql" in reply.text) == (503, False)
    finally:
        postgres.start()
    _until(lambda: server.http.get("/ready").status_code == 200)
    assert server.put_update(one, 1, body).status_code == 201
    assert server.put_update(two, 1, two.trained(server.share(two, 1))).status_code == 201
    server.until(2, "training")
    server.close()


def _until(holds: Callable[[], bool]) -> None:
    until = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < until
        time.sleep(0.1)


def test_two_coordinators_on_one_database_close_each_round_once(
    tmp_path: Path, postgres: Postgres, s3: Callable[[], str]
) -> None:
    shared = {"COORDINATOR_DATABASE_URL": postgres(), "COORDINATOR_BLOBS": s3()}
    servers = [Server(tmp_path / str(i), **shared) for i in range(2)]
    crowd = members(*[8] * 4)
    servers[0].join(*crowd)
    rounds = 6
    servers[1].begin(clients=4, rounds=rounds, evaluate_every=rounds, quorum=4)
    for number in range(1, rounds + 1):
        servers[number % 2].until(number, "training")
        calls = [(servers[i % 2], member) for i, member in enumerate(crowd)]
        bodies = [member.trained(writable(server.share(member, number))) for server, member in calls]
        with ThreadPoolExecutor(4) as pool:
            sent = [pool.submit(s.put_update, m, number, body) for (s, m), body in zip(calls, bodies, strict=True)]
            replies = [each.result() for each in sent]
        assert [reply.status_code for reply in replies] == [201] * 4
    servers[0].until(rounds + 1, "evaluating")
    # A nonce that one has taken, the other refuses.
    request = servers[0].request(crowd[0], "GET", "/round")
    assert servers[0].http.send(request).status_code == 200
    elsewhere = str(servers[1].http.base_url).rstrip("/") + "/round"
    assert servers[1].http.get(elsewhere, headers=request.headers).status_code == 401
    # One dies, the other goes on.
    servers[0].kill()
    view = servers[1].run(crowd)
    assert (view.phase, view.round, view.rounds_done) == ("finished", rounds + 1, rounds)
    log = servers[1].operator("GET", "/audit?limit=1000").json()["entries"]
    versions = [entry["round"] for entry in log if entry["did"] == "version"]
    assert sorted(versions) == list(range(1, rounds + 2))
    for server in servers:
        server.close()
