"""What keeps the page live: the stream of events, and curves that are asked for what is new alone."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest

from protocol.rounds import RoundView
from services.coordinator.identity.joining import leave
from services.coordinator.page.curves import curves
from services.coordinator.page.overview import overview
from services.coordinator.rounds.trainings import stop_training
from services.coordinator.store.schema import Client
from tests.coordinator.support import OPERATOR, Local, Member, Server, bearer, members


@contextmanager
def stream(server: Server) -> Iterator[Iterator[tuple[str, RoundView]]]:
    """Ids and data of `round` events as they come."""
    with (
        httpx.Client(base_url=server.http.base_url, timeout=20, trust_env=False) as http,
        http.stream("GET", "/events", headers=bearer(OPERATOR)) as reply,
    ):
        assert reply.status_code == 200
        assert reply.headers["content-type"].startswith("text/event-stream")
        yield _events(reply)


def _events(reply: httpx.Response) -> Iterator[tuple[str, RoundView]]:
    fields: dict[str, str] = {}
    for line in reply.iter_lines():
        if line:
            name, _, value = line.partition(": ")
            fields[name] = value
        elif fields.get("event") == "round":
            yield fields["id"], RoundView.model_validate_json(fields["data"])
            fields = {}


def test_every_change_is_told(server: Server) -> None:
    crowd = members(2, 2)
    with stream(server) as events:
        id_, view = next(events)
        assert (view.phase, view.clients) == ("idle", 0)
        assert id_ == str(view.event)
        server.join(crowd[0])
        assert next(events)[1].clients == 1
        training = server.begin(clients=2)
        phases = []
        server.join(crowd[1])
        while "training" not in phases:
            phases.append(next(events)[1].phase)
        assert server.view().training == training


def test_a_server_that_ends_ends_its_streams(server: Server) -> None:
    with stream(server) as events:
        next(events)
        begun = time.monotonic()
        server.stop()
        assert list(events) == []
    assert time.monotonic() - begun < 10


def test_curves_are_means_weighted_as_fede_weighs(local: Local) -> None:
    crowd = [
        Member("small", ["e1", "e2"], {"train": 10, "valid": 1, "test": 1}),
        Member("large", ["e2", "e3"], {"train": 30, "valid": 3, "test": 3}),
    ]
    local.join(*crowd)
    local.start(clients=2, rounds=2, evaluate_every=1)
    local.send(crowd[0])
    (early,) = curves(local.store, None, 0).points
    assert (early.loss, early.bytes > 0) == (None, True)  # no mean of who happens to be first
    local.send(crowd[1])
    local.report(crowd[0], 0.2)
    assert curves(local.store, None, 0).points[-1].mrr is None
    local.report(crowd[1], 0.6)
    found = curves(local.store, None, 0)
    first, second = found.points
    assert first.loss == pytest.approx(0.5)
    assert first.mrr is None
    assert second.mrr == pytest.approx((0.2 + 3 * 0.6) / 4)
    by_client = {each.name: [point.mrr for point in each.points] for each in found.clients}
    assert by_client == {"small": [None, 0.2], "large": [None, 0.6]}
    assert first.bytes == sum(each.points[0].bytes for each in found.clients)
    assert found.next_after == first.round
    assert [point.round for point in curves(local.store, None, found.next_after).points] == [second.round]


def test_long_curves_come_in_parts(local: Local) -> None:
    crowd = members(2, 3)
    local.join(*crowd)
    local.start(clients=2, rounds=9, evaluate_every=9)
    for _ in range(4):
        for member in crowd:
            local.send(member)
    whole = curves(local.store, None, 0)
    assert not whole.more
    parts = [curves(local.store, None, 0, most_points=6)]
    while parts[-1].more:
        parts.append(curves(local.store, None, parts[-1].next_after, most_points=6))
    assert [len(part.points) for part in parts] == [2, 2, 1]
    assert [point for part in parts for point in part.points] == whole.points
    for one in whole.clients:
        found = [each for part in parts for each in part.clients if each.client == one.client]
        assert [point for each in found for point in each.points] == one.points
    assert parts[-1].next_after == whole.next_after


def test_curves_agree_with_the_history(server: Server) -> None:
    crowd = members(2, 3)
    server.join(*crowd)
    training = server.begin(clients=2, rounds=3, evaluate_every=1)
    server.run(crowd)
    history = server.operator("GET", "/rounds", training=training).json()["rounds"]
    found = server.operator("GET", "/curves", training=training).json()["points"]
    assert [point["round"] for point in found] == [each["round"] for each in reversed(history)]
    for point, each in zip(found, reversed(history), strict=True):
        valid = each["evaluations"]
        assert point["loss"] == each["loss"]
        assert point["bytes"] == each["bytes"]
        assert point["mrr"] == (valid[0]["sides"]["both"]["mrr"] if valid else None)
    assert server.operator("GET", "/curves", training="none").status_code == 404


def test_who_is_late_is_told(local: Local) -> None:
    crowd = members(2, 2)
    local.join(*crowd)
    local.start(clients=2, quorum=2, deadline_seconds=60)
    local.send(crowd[0])

    def states() -> dict[str, tuple[str, bool]]:
        return {each.name: (each.doing, each.late) for each in overview(local.store).crew}

    assert states() == {"m0": ("sent", False), "m1": ("training", False)}
    local.pass_time(31)
    assert states() == {"m0": ("sent", False), "m1": ("training", True)}
    local.pass_time(30)  # the deadline is renewed: still late
    assert states()["m1"] == ("training", True)
    local.send(crowd[1])
    assert states() == {"m0": ("unheard", False), "m1": ("unheard", False)}  # of the next round
    hear(local, crowd[0])
    assert states() == {"m0": ("training", False), "m1": ("unheard", False)}
    local.pass_time(31)
    assert states() == {"m0": ("training", True), "m1": ("unheard", True)}


def hear(local: Local, *seen: Member) -> None:
    """What a signed request does."""
    with local.store.database.write() as session:
        for member in seen:
            session.get_one(Client, member.id).seen = local.clock()


def test_a_training_lists_who_took_part_and_the_latest_one_all_members(local: Local) -> None:
    early, gone, late = members(2, 2, 2)
    local.join(early, gone)
    first = local.start(clients=1, rounds=1)
    local.send(early)
    local.send(gone)
    local.report(early, 0.5)
    local.report(gone, 0.5)
    assert local.view().phase == "finished"
    local.pass_time(10)
    local.join(late)
    leave(local.store, gone.id)
    local.start(clients=1)

    def names(training: str | None) -> set[str]:
        return {each.name for each in overview(local.store, training).crew}

    assert names(first) == {"m0", "m1"}
    assert names(None) == {"m0", "m2"}


def test_who_died_in_a_former_training_is_not_waited_for_at_the_end(local: Local) -> None:
    alive, dead = members(2, 2)
    local.join(dead)
    local.pass_time(10)
    local.join(alive)
    local.start(clients=2, rounds=1)
    local.send(alive)
    local.pass_time(61)
    local.report(alive, 0.5)
    local.pass_time(61)
    assert local.view().phase == "finished"
    found = overview(local.store)
    assert {each.name: each.doing for each in found.crew} == {"m0": "unheard", "m1": "member"}
    hear(local, alive)
    found = overview(local.store)
    assert {each.name: each.doing for each in found.crew} == {"m0": "concluding", "m1": "member"}
    assert (found.concluded, found.to_conclude) == (0, 1)


def test_nobody_is_late_who_is_not_waited_for(local: Local) -> None:
    crowd = [Member("ranks", ["x"]), Member("has nothing to rank", ["x"], {"train": 9, "valid": 0, "test": 1})]
    local.join(*crowd)
    local.start(clients=2, rounds=1)
    for member in crowd:
        local.send(member)
    local.pass_time(41)
    states = {each.name: (each.doing, each.late) for each in overview(local.store).crew}
    assert states == {"ranks": ("evaluating", True), "has nothing to rank": ("waiting", False)}
    local.report(crowd[0], 0.5)
    local.pass_time(100)  # beyond the deadline of a round that is over
    assert {each.late for each in overview(local.store).crew} == {False}


def test_what_a_member_shares_is_of_what_the_training_shares(local: Local) -> None:
    one, two = Member("one", ["x", "y"], relations=["r", "s"]), Member("two", ["x", "y"], relations=["s"])
    local.join(one, two)
    for share, expected in (("entities", 2), ("relations", 1), ("both", 3)):
        dense = {"relation_dim": 4} if share != "entities" else {}
        local.start(clients=2, share=share, **dense)
        assert [each.shared for each in overview(local.store).crew] == [expected] * 2
        stop_training(local.store)
    leave(local.store, two.id)
    assert {each.name: each.shared for each in overview(local.store).crew} == {"one": 0, "two": None}
    first = overview(local.store).trainings[-1].training
    assert [each.shared for each in overview(local.store, first).crew] == [None] * 2


def test_rounds_count_within_a_training(local: Local) -> None:
    crowd = members(2, 2)
    local.join(*crowd)
    for _ in range(2):
        local.start(clients=2, rounds=2, evaluate_every=1)
        for number in (1, 2):
            for member in crowd:
                local.send(member)
            for member in crowd:
                local.report(member, number / 10)
    found = overview(local.store)
    assert found.chosen is not None
    assert local.view().best_version == 6
    assert found.chosen.best_after == 2
    lines = [(each.round, each.updates, each.metrics and each.metrics.mrr) for each in found.chosen.rounds]
    assert lines == [(2, 2, pytest.approx(0.2)), (1, 2, pytest.approx(0.1))]
    assert [each.last_round for each in found.crew] == [2, 2]

    local.start(clients=2, quorum=2, attempts=1)
    local.pass_time(61)
    paused = overview(local.store).chosen
    assert paused is not None
    assert paused.paused is not None
    assert paused.paused.startswith("round 1 stayed below the quorum")


def test_what_some_clients_sent_when_a_training_was_stopped_is_no_mean(local: Local) -> None:
    crowd = members(2, 2)
    local.join(*crowd)
    local.start(clients=2, quorum=2, rounds=4, evaluate_every=4)
    for member in (*crowd, crowd[0]):
        local.send(member)
    stop_training(local.store)
    found = overview(local.store).chosen
    assert found is not None
    assert (found.summary.stopped, found.best_after) == (True, None)
    assert [(each.round, each.updates, each.loss) for each in found.rounds] == [(2, 1, None), (1, 2, 0.5)]
    curve = curves(local.store, None, 0)
    assert [point.loss for point in curve.points] == [0.5, None]
    by_client = {each.name: [point.loss for point in each.points] for each in curve.clients}
    assert by_client == {"m0": [0.5, 0.5], "m1": [0.5]}

    local.start(clients=2, quorum=2, rounds=4, evaluate_every=1)
    for member in crowd:
        local.send(member)
    local.report(crowd[0], 0.9)
    stop_training(local.store)
    assert [point.mrr for point in curves(local.store, None, 0).points] == [None, None]
    stopped = overview(local.store).chosen
    assert stopped is not None
    assert [each.metrics for each in stopped.rounds] == [None]
