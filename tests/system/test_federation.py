"""Three clients train together over HTTP, whatever is killed on the way."""

import re
import time

from tests.system.conftest import CLIENTS, System
from trainer.results import read_results


def wait_for_round(system: System, number: int) -> None:
    deadline = time.monotonic() + 120
    while not any(r.round >= number for r in system.rounds().rounds):
        assert time.monotonic() < deadline, f"round {number} was not reached"
        system.processes.check()
        time.sleep(0.05)


def test_llama_trains_through_the_scorer_and_every_client_prints_its_rows(system: System) -> None:
    system.start_coordinator()
    system.start_scorer()
    system.start_training("llama", "--rounds", "4", "--evaluate-every", "2", "--local-epochs", "1")
    clients = system.start_clients()
    system.wait(clients)

    for client in clients:
        text = client.log.read_text()
        for mode in ("isolation", "federation", "fusion"):
            assert re.search(rf"llama\W+{mode}\W+0\.\d+", text), text
    history = system.rounds()
    (training,) = history.trainings
    assert training.phase == "finished"
    assert training.settings.scorer is not None
    best = next(r for r in history.rounds if r.round == training.best_version)
    tested = {e.mode: e for e in best.evaluations if e.split == "test"}
    assert set(tested) == {"isolation", "federation", "fusion"}
    assert all(e.clients == CLIENTS for e in tested.values())
    # An untrained model ranks near 4 / candidates; four rounds are well above that.
    assert tested["federation"].sides["both"].mrr > 0.12

    again = system.start_client(0, log="again")
    system.wait([again])
    assert clients[0].log.read_text().splitlines()[-8:] == again.log.read_text().splitlines()[-8:]


def test_killed_coordinator_and_killed_client_go_on_where_they_were(system: System) -> None:
    coordinator = system.start_coordinator()
    system.start_training("transe", "--rounds", "10", "--evaluate-every", "5")
    clients = system.start_clients()
    wait_for_round(system, 2)
    system.kill(coordinator)
    time.sleep(1.0)
    system.start_coordinator("coordinator-again")
    wait_for_round(system, 5)
    system.kill(clients[1])
    clients[1] = system.start_client(1, log="client_1-again")
    system.wait(clients)

    history = system.rounds()
    assert [t.phase for t in history.trainings] == ["finished"]
    trained = [r for r in history.rounds if r.selected]
    assert sorted(r.round for r in trained) == list(range(1, 11))
    assert all(r.updates == CLIENTS for r in trained)
    for number in range(CLIENTS):
        (file,) = system.folder.glob(f"homes/client_{number}/*/*/results.json")
        assert [r.mode for r in read_results(file)] == ["isolation", "federation", "fusion"]


def test_client_without_the_training_s_scorer_does_not_train(system: System) -> None:
    system.start_coordinator()
    system.start_scorer()
    system.start_training("llama", "--rounds", "1")
    system.scorer_url = None
    client = system.start_client(0)
    assert client.process.wait(60) == 2
    assert "error: the interaction `llama` needs a scorer: give its address as --scorer" in client.log.read_text()
    system.processes.children.remove(client)


def test_client_joins_but_once(system: System) -> None:
    system.start_coordinator()
    first = system.start_client(0)
    deadline = time.monotonic() + 60
    while "is client" not in first.log.read_text():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    system.kill(first)
    again = system.start_client(0, log="again")
    while "is client" not in again.log.read_text():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    named = [re.search(r"is client (\w+)", c.log.read_text()) for c in (first, again)]
    assert named[0] is not None
    assert named[1] is not None
    assert named[0][1] == named[1][1]
