"""An operator's calls to what the coordinator's routes call, behind a server that loses replies."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from protocol.members import ClientSummary
from protocol.problems import Conflict, NotFound, NotReady, ProblemError
from protocol.rounds import TrainingSummary
from protocol.signatures import Signer
from protocol.trainings import TrainingSettings
from services.coordinator.identity.joining import revoke
from services.coordinator.identity.members import clients
from services.coordinator.rounds.history import rounds_history
from services.coordinator.rounds.trainings import pause_training, resume_training, start_training, stop_training
from services.coordinator.store.store import open_store
from tests.coordinator.support import LIMIT, Clock, Local, members, settings
from tests.trainer.support import DROP, Loopback, Reply, loopback
from trainer.clients.coordinator import Coordinator

WANTED, OTHER = settings(), settings(dim=8)
CLINIC, NEIGHBOUR = members(3, 3)


def refusal(problem: ProblemError) -> Reply:
    return problem.status, problem.document().model_dump_json(exclude_defaults=True).encode()


class Losing:
    """A coordinator whose replies are lost: as many of them as `replies` has, each replaced by what is there.

    Attributes:
        deaf: The calls whose replies are lost are not done either.
    """

    def __init__(self, local: Local) -> None:
        self.local, self.store = local, local.store
        self.replies: list[Reply] = []
        self.deaf = False

    def respond(self, path: str, body: bytes) -> Reply:
        lost = self.replies.pop(0) if self.replies else None
        if lost is not None and self.deaf:
            return lost
        try:
            due = self.do(path.partition("?")[0], body)
        except ProblemError as problem:
            due = refusal(problem)
        return due if lost is None else lost

    def do(self, path: str, body: bytes) -> Reply:
        changes = {"/round/pause": pause_training, "/round/resume": resume_training, "/round/stop": stop_training}
        if path == "/round":
            started = start_training(self.store, TrainingSettings.model_validate_json(body), LIMIT)
            return 201, started.model_dump_json().encode()
        if path in changes:
            return 200, changes[path](self.store).model_dump_json().encode()
        if path == "/rounds":
            return 200, rounds_history(self.store, None, None, 1).model_dump_json().encode()
        if path == "/clients":
            return 200, clients(self.store).model_dump_json().encode()
        revoke(self.store, path.removeprefix("/clients/"))
        return 204, b""

    @property
    def trainings(self) -> list[TrainingSummary]:
        return rounds_history(self.store, None, None, 1).trainings

    @property
    def clients(self) -> list[ClientSummary]:
        return clients(self.store).clients

    def begin(self, before: str) -> None:
        """Bring about what stands before a call."""
        if before == "nothing":
            return
        self.local.join(NEIGHBOUR if before == "a neighbour removed" else CLINIC)
        self.local.start(**WANTED.model_dump())
        if before == "paused":
            pause_training(self.store)
        elif before == "finished":
            stop_training(self.store)
        elif before in ("removed", "a neighbour removed"):
            revoke(self.store, self.clients[0].client)


@pytest.fixture
def losing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Losing]:
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    clock = Clock()
    store = open_store(tmp_path, clock=clock)
    yield Losing(Local(store, clock))
    store.database.close()


@pytest.fixture
def server(losing: Losing) -> Iterator[Loopback]:
    with loopback(losing.respond) as running:
        yield running


@pytest.fixture
def operator(server: Loopback) -> Iterator[Coordinator]:
    with Coordinator.at(server.url, "the operator's token") as calls:
        yield calls


Call = Callable[[Coordinator], TrainingSummary | None]
CALLS: dict[str, Call] = {
    "start": lambda operator: operator.start(WANTED),
    "pause": Coordinator.pause,
    "resume": Coordinator.resume,
    "stop": Coordinator.stop,
    "revoke": lambda operator: operator.leave(CLINIC.id),
}
CHANGES = [("start", "nothing"), ("pause", "running"), ("resume", "paused"), ("stop", "running"), ("stop", "paused")]
LOST = [[DROP], [(502, b"<html>proxy</html>")], [(500, b"")], [refusal(NotReady("the database"))], [DROP, DROP]]
lost_so = pytest.mark.parametrize("replies", LOST, ids=["dropped", "proxy", "failed", "not ready", "twice"])


@lost_so
@pytest.mark.parametrize(("what", "before"), CHANGES)
def test_a_change_whose_reply_was_lost_is_made(
    losing: Losing, server: Loopback, operator: Coordinator, what: str, before: str, replies: list[Reply]
) -> None:
    losing.begin(before)
    losing.replies = list(replies)
    summary = CALLS[what](operator)
    assert [summary] == losing.trainings
    assert [path for _, path, _, _ in server.seen[len(replies) + 1 :]] == ["/rounds?limit=1"]


@lost_so
def test_a_removal_whose_reply_was_lost_is_made(losing: Losing, operator: Coordinator, replies: list[Reply]) -> None:
    losing.begin("running")
    losing.replies = list(replies)
    operator.leave(CLINIC.id)
    assert [client.removed_by for client in losing.clients] == ["operator"]


REFUSED = [
    ("start", "running", "one runs at a time"),
    ("pause", "paused", "is paused already"),
    ("pause", "finished", "no training is running"),
    ("resume", "running", "is not paused"),
    ("resume", "finished", "no training is running"),
    ("stop", "finished", "no training is running"),
    ("stop", "nothing", "no training is running"),
    ("revoke", "removed", "there is no member"),
]


@pytest.mark.parametrize(("what", "before", "why"), REFUSED)
@pytest.mark.parametrize("lost_before", [False, True])
def test_what_is_refused_at_once_stays_refused(
    losing: Losing, server: Loopback, operator: Coordinator, what: str, before: str, why: str, lost_before: bool
) -> None:
    """Also where another call has lost a reply before."""
    losing.begin(before)
    if lost_before:
        losing.replies = [DROP]
        operator.rounds()
    asked = len(server.seen)
    with pytest.raises((Conflict, NotFound), match=why):
        CALLS[what](operator)
    assert len(server.seen) == asked + 1


@pytest.mark.parametrize(
    ("what", "before", "why"),
    [
        ("pause", "nothing", "no training is running"),
        ("pause", "finished", "no training is running"),
        ("resume", "finished", "no training is running"),
        ("stop", "nothing", "no training is running"),
        ("revoke", "nothing", "there is no member"),
        ("revoke", "a neighbour removed", "there is no member"),
    ],
)
def test_what_was_not_done_is_refused_after_a_lost_reply_too(
    losing: Losing, operator: Coordinator, what: str, before: str, why: str
) -> None:
    losing.begin(before)
    losing.replies = [DROP]
    with pytest.raises((Conflict, NotFound), match=why):
        CALLS[what](operator)


def test_a_training_with_other_settings_is_not_the_one_that_was_to_start(losing: Losing, operator: Coordinator) -> None:
    losing.begin("running")
    losing.replies = [DROP]
    with pytest.raises(Conflict, match="one runs at a time"):
        operator.start(OTHER)


@pytest.mark.parametrize(("what", "before"), CHANGES)
def test_a_call_that_never_arrived_is_made_by_the_next(
    losing: Losing, server: Loopback, operator: Coordinator, what: str, before: str
) -> None:
    losing.begin(before)
    losing.replies, losing.deaf = [DROP], True
    assert [CALLS[what](operator)] == losing.trainings
    assert len(server.seen) == 2


def test_a_client_that_leaves_asks_for_no_list_of_clients(losing: Losing, operator: Coordinator) -> None:
    """It may not see it: the refusal would be another one."""
    losing.begin("running")
    losing.replies = [DROP]
    operator.service.signer = Signer.generate()
    with pytest.raises(NotFound, match="there is no member"):
        operator.leave(CLINIC.id)
