"""The whole system on loopback, as real processes: what the tests here start is what users start."""

import secrets
import signal
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from protocol.rounds import Rounds
from trainer.dataset import read_dataset
from trainer.graph import write_folder
from trainer.processes import LOOPBACK, Child, Processes, free_port
from trainer.split import deal

CLIENTS = 3
SHARED = Path(__file__).parents[3] / "shared" / "data" / "umls-fed3"
"""The deal that results are compared on, where it is at hand; else the same graph is dealt anew."""


def nothing() -> None:
    """No progress to show."""


class System:
    """Services and clients of one test, with their secrets, data and homes in one folder."""

    def __init__(self, folder: Path, processes: Processes, data: bool = True) -> None:
        self.folder, self.processes = folder, processes
        self.coordinator_port = free_port()
        self.coordinator_url = f"http://{LOOPBACK}:{self.coordinator_port}"
        self.scorer_url: str | None = None
        for name in ("shared-key", "invitation", "operator"):
            (folder / name).write_text(secrets.token_hex(32))
        if not data:
            return
        if SHARED.is_dir():
            (folder / "data").symlink_to(SHARED)
        else:
            for i, parts in enumerate(deal(read_dataset("umls"), CLIENTS, seed=0)):
                write_folder(folder / "data" / f"client_{i}", parts)

    def start_coordinator(self, name: str = "coordinator", failpoint: str = "", **settings: str) -> Child:
        environment = settings | {
            "COORDINATOR_FAILPOINT": failpoint,
            "COORDINATOR_DATA_DIR": str(self.folder / "state"),
            "COORDINATOR_INVITATION_TOKEN_FILE": str(self.folder / "invitation"),
            "COORDINATOR_OPERATOR_TOKEN_FILE": str(self.folder / "operator"),
        }
        factory = ["uvicorn", "services.coordinator.app:create_app", "--factory", "--no-access-log"]
        child = self.processes.start(name, [*factory, "--port", str(self.coordinator_port)], environment)
        self.processes.wait_ready(self.coordinator_url, nothing)
        return child

    def start_scorer(self) -> str:
        self.scorer_url = self.processes.serve("scorer", "services.scorer.app:create_app", {"SCORER_MODEL": "random"})
        self.processes.wait_ready(self.scorer_url, nothing)
        return self.scorer_url

    def start_scorer_at(self, port: int, name: str = "scorer") -> Child:
        """A scorer whose numbers depend on nobody else's calls, where the clients reach it by another address."""
        environment = {"SCORER_MODEL": "random", "SCORER_MERGE": "false", "SCORER_THREADS": "1"}
        factory = ["uvicorn", "services.scorer.app:create_app", "--factory", "--port", str(port)]
        child = self.processes.start(name, factory, environment)
        self.processes.wait_ready(f"http://{LOOPBACK}:{port}", nothing)
        return child

    def start_training(self, interaction: str, *options: str) -> None:
        arguments = ["trainer", "start", "--coordinator", self.coordinator_url, "--interaction", interaction]
        arguments += ["--operator-token-file", str(self.folder / "operator"), "--clients", str(CLIENTS)]
        arguments += ["--quorum", str(CLIENTS), *options, *self._scorer()]
        self.processes.wait_all([self.processes.start("start", arguments)], nothing)

    def start_client(self, number: int, *options: str, log: str = "") -> Child:
        name = f"client_{number}"
        arguments = ["trainer", "join", "--coordinator", self.coordinator_url, "--name", name]
        arguments += ["--data", str(self.folder / "data" / name), "--home", str(self.folder / "homes" / name)]
        arguments += ["--shared-key-file", str(self.folder / "shared-key")]
        arguments += ["--invitation-file", str(self.folder / "invitation"), *options, *self._scorer()]
        return self.processes.start(log or name, arguments)

    def start_clients(self) -> list[Child]:
        return [self.start_client(number) for number in range(CLIENTS)]

    def wait(self, children: list[Child]) -> None:
        self.processes.wait_all(children, nothing)

    def kill(self, child: Child) -> None:
        """SIGKILL; the child's end is then no failure of the test."""
        child.process.send_signal(signal.SIGKILL)
        child.process.wait()
        self.processes.children.remove(child)

    def rounds(self) -> Rounds:
        token = (self.folder / "operator").read_text()
        headers = {"Authorization": f"Bearer {token}"}
        return Rounds.model_validate_json(
            httpx.get(f"{self.coordinator_url}/rounds?limit=100", headers=headers).content
        )

    def model(self) -> bytes:
        """The best version of the latest training, as an operator gets it."""
        headers = {"Authorization": f"Bearer {(self.folder / 'operator').read_text()}"}
        return httpx.get(f"{self.coordinator_url}/model", headers=headers).raise_for_status().content

    def _scorer(self) -> list[str]:
        return ["--scorer", self.scorer_url] if self.scorer_url else []


@pytest.fixture
def system(tmp_path: Path) -> Iterator[System]:
    with Processes(tmp_path / "logs") as processes:
        yield System(tmp_path, processes)
