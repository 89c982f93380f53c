"""A training of three clients in which every process is killed in turn ends with the model of an undisturbed one."""

import hashlib
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load

from tests.coordinator.support import signer
from tests.faults.proxy import Proxy
from tests.system.conftest import CLIENTS, LOOPBACK, System
from trainer.processes import Child, Processes, free_port
from trainer.results import ClientResult, read_results

pytestmark = [pytest.mark.faults, pytest.mark.timeout(600)]

OPTIONS = {
    "transe": ["--rounds", "6", "--evaluate-every", "3"],
    "llama": ["--rounds", "5", "--evaluate-every", "5", "--local-epochs", "2"],
}
PATIENCE = 200
Outcome = tuple[str, list[ClientResult]]


@contextmanager
def system(folder: Path) -> Iterator[System]:
    folder.mkdir()
    with Processes(folder / "logs") as processes:
        made = System(folder, processes)
        # Where entity rows start depends on their keys, and the order in which clients are summed on theirs.
        (folder / "shared-key").write_text("the same key in every run")
        for number in range(CLIENTS):
            home = folder / "homes" / f"client_{number}"
            home.mkdir(parents=True)
            (home / "key.pem").write_bytes(signer(home.name).to_pem())
            (home / "key.pem").chmod(0o600)
        yield made


def outcome(run: System) -> Outcome:
    """The hash of the best version, and all clients' rows."""
    assert run.rounds().trainings[0].phase == "finished"
    model = load(run.model())
    # Global rows are numbered in the order of joining, which is no part of what is promised.
    order = np.lexsort(model["entity_keys"].T)
    digest = hashlib.sha256(model["entities"][order].tobytes())
    for name in sorted(name for name in model if name.startswith("dense.")):
        digest.update(model[name].tobytes())
    rows = [row for file in sorted(run.folder.glob("homes/*/*/*/results.json")) for row in read_results(file)]
    assert len(rows) == 3 * CLIENTS
    rows.sort(key=lambda row: (row.client, row.mode))
    return digest.hexdigest(), rows


def until(run: System, holds: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not holds():
        run.processes.check()
        assert time.monotonic() < deadline
        time.sleep(0.002)


def dies(run: System, child: Child) -> None:
    """Wait for a process that kills itself."""
    assert child.process.wait(PATIENCE) == -signal.SIGKILL
    run.processes.children.remove(child)


def kill_in_an_epoch(run: System, clients: list[Child], number: int) -> None:
    """Kill a client between two epochs' ends of a round, and start it again."""
    home = run.folder / "homes" / f"client_{number}"
    until(run, lambda: any(home.glob("*/*/round-*.part.safetensors")))
    run.kill(clients[number])
    clients[number] = run.start_client(number, log=f"client_{number}-again")


def undisturbed(folder: Path, interaction: str) -> Outcome:
    with system(folder) as run:
        run.start_coordinator()
        if interaction == "llama":
            port = free_port()
            run.start_scorer_at(port)
            run.scorer_url = f"http://{LOOPBACK}:{port}"
        run.start_training(interaction, *OPTIONS[interaction])
        run.wait(run.start_clients())
        return outcome(run)


def test_transe(tmp_path: Path) -> None:
    peace = undisturbed(tmp_path / "peace", "transe")
    with system(tmp_path / "storm") as run:
        coordinator = run.start_coordinator(failpoint="update.stored:4")
        run.start_training("transe", *OPTIONS["transe"])
        clients = run.start_clients()
        dies(run, coordinator)
        # After the kills, which each hold up a round, and before the last one.
        coordinator = run.start_coordinator("coordinator-2", failpoint="blob.synced:13")
        for number in range(CLIENTS):
            kill_in_an_epoch(run, clients, number)
        dies(run, coordinator)
        run.start_coordinator("coordinator-3")
        run.wait(clients)
        assert outcome(run) == peace


def test_llama(tmp_path: Path) -> None:
    peace = undisturbed(tmp_path / "peace", "llama")
    with system(tmp_path / "storm") as run:
        port, gradients = free_port(), 0
        scorer = run.start_scorer_at(port)

        def seen() -> None:
            nonlocal gradients
            gradients += 1
            if gradients == 40:
                scorer.process.send_signal(signal.SIGKILL)

        proxy = Proxy(port, b"POST /encode/gradient", seen)
        run.scorer_url = proxy.url
        coordinator = run.start_coordinator(failpoint="model.stored:2")
        run.start_training("llama", *OPTIONS["llama"])
        clients = run.start_clients()
        dies(run, scorer)
        run.start_scorer_at(port, "scorer-again")
        dies(run, coordinator)
        run.start_coordinator("coordinator-2")
        for number in range(CLIENTS):
            kill_in_an_epoch(run, clients, number)
        run.wait(clients)
        proxy.close()
        assert outcome(run) == peace
