"""Ten rounds in which everything goes wrong at once end with the model of a run that got the same updates in peace."""

import random
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from protocol.rounds import RoundView
from services.coordinator.store.store import open_store
from tests.coordinator.support import Clock, Local, Member, Server, evaluation, members

pytestmark = pytest.mark.faults

ROUNDS, ASKED = 10, 3
TRAINING = {
    "clients": 6,
    "fraction": 0.5,
    "over_selection": 0.67,
    "quorum": 2,
    "rounds": ROUNDS,
    "evaluate_every": 5,
    "patience": 9,
    "dense": {"w": {"shape": [4], "init": 0.1}},
}


class Lossy(httpx.HTTPTransport):
    """A network that loses every other reply to a PUT, after the server has done what was asked."""

    def __init__(self, chance: random.Random) -> None:
        super().__init__()
        self.lost = 0
        self._chance = chance

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        response = super().handle_request(request)
        if request.method == "PUT" and self._chance.random() < 0.5:
            response.read()
            response.close()
            self.lost += 1
            raise httpx.ReadError("the reply is lost", request=request)
        return response


class Storm:
    """Clients of a server that is killed now and then, on a network that loses replies.

    Attributes:
        reports: Who answered in each round. The others that were drawn have vanished.
        deaths, repeated: How often the server was killed, and an update that was stored came again.
    """

    def __init__(self, server: Server, crowd: list[Member], seed: int) -> None:
        self.server, self.crowd, self.chance = server, crowd, random.Random(seed)
        self.reports: dict[int, list[Member]] = {}
        self.deaths = self.repeated = 0
        self.network = Lossy(self.chance)
        base = server.http.base_url
        server.http.close()
        server.http = httpx.Client(transport=self.network, base_url=base, timeout=20, trust_env=False)

    def run(self) -> RoundView:
        while (view := self.server.view()).phase != "finished":
            if view.round is None:  # it opens by itself
                self.server.view(wait=5, after=view.event)
            elif view.phase == "training" and view.round not in self.reports:
                self._train(view.round)
            elif view.phase == "evaluating":
                for member in self.crowd:
                    content = evaluation(view.round / 100)
                    self._insist(lambda m=member, n=view.round, c=content: self.server.put_evaluation(m, n, c))
            else:
                self.server.view(wait=5, after=view.event)
        return view

    def _train(self, number: int) -> None:
        drawn = [member for member in self.crowd if self.server.view(member).selected]
        assert len(drawn) > ASKED
        self.reports[number] = sorted(self.chance.sample(drawn, ASKED), key=lambda member: member.id)
        for member in self.chance.sample(self.reports[number], ASKED):
            body = member.trained(self.server.share(member, number))
            for _ in range(10 if self.chance.random() < 0.2 else 1):
                self._kill_perhaps()
                reply = self._insist(lambda m=member, b=body: self.server.put_update(m, number, b))
                self.repeated += reply.status_code == 200

    def _insist(self, call: Callable[[], httpx.Response]) -> httpx.Response:
        """Call until there is an answer; each time it is signed anew."""
        while True:
            try:
                reply = call()
            except httpx.ReadError:
                continue
            assert reply.status_code in (200, 201), reply.text
            return reply

    def _kill_perhaps(self) -> None:
        if self.chance.random() < 0.2:
            self.server.kill()
            self.server.start()
            self.deaths += 1


def in_peace(folder: Path, crowd: list[Member], reports: dict[int, list[Member]]) -> bytes:
    """The last model of a run in one process in which these clients answered, and nothing went wrong."""
    clock = Clock()
    local = Local(open_store(folder, clock=clock), clock)
    local.join(*crowd)
    local.start(**TRAINING)
    while (view := local.view()).phase != "finished":
        assert view.round is not None
        for member in reports[view.round] if view.phase == "training" else crowd:
            local.send(member) if view.phase == "training" else local.report(member, view.round / 100)
    local.store.database.close()
    return (folder / "models" / f"{view.best_version}.safetensors").read_bytes()


@pytest.mark.parametrize("seed", [0, 1])
def test_a_run_through_a_storm_ends_with_the_model_of_a_run_in_peace(tmp_path: Path, seed: int) -> None:
    crowd = members(*[8] * 6)
    server = Server(tmp_path / "storm")
    server.join(*crowd)
    server.begin(**TRAINING)
    storm = Storm(server, crowd, seed)
    view = storm.run()
    counts = {each["round"]: each["updates"] for each in server.operator("GET", "/rounds").json()["rounds"]}
    server.close()
    assert (view.round, view.best_version) == (ROUNDS + 1, ROUNDS + 1)
    assert min(storm.deaths, storm.network.lost, storm.repeated) > 1
    assert counts == {number: ASKED for number in range(1, ROUNDS + 1)} | {ROUNDS + 1: 0}
    last = (tmp_path / "storm" / "models" / f"{view.best_version}.safetensors").read_bytes()
    assert last == in_peace(tmp_path / "peace", crowd, storm.reports)
