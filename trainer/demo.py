"""Everything on this machine: a scorer, a coordinator, clients and the pooled reference as real processes, and a table.

One interaction after the other is trained in all four modes on the same deal of the same graph.
"""

import hashlib
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from protocol.trainings import InteractionName
from trainer.dataset import read_dataset
from trainer.graph import write_folder
from trainer.processes import Child, Processes
from trainer.results import ClientResult, read_results, rows, write
from trainer.split import deal

_SCORER = {"SCORER_MODEL": "random", "SCORER_WORKERS": "2", "SCORER_THREADS": "1", "SCORER_MERGE": "false"}
"""The random model: from vectors alone its one layer learns better than the embedded one's first, and faster. Two calls
at once; never merged, or the last bits of a client's numbers would depend on when the others call.
"""
_SERVICES = ("scorer", "coordinator")
LINE_SECONDS = 10.0
"""Between two progress lines where the output is no terminal."""


@dataclass
class Display:
    """What the user sees while the demo runs: what each process said last."""

    console: Console
    processes: Processes
    started: float = field(default_factory=time.monotonic)
    stage: str = ""
    _last_line: float = 0.0

    def __rich__(self) -> Group:
        head = Text(f"{time.monotonic() - self.started:4.0f} s  {self.stage}", style="bold")
        table = Table.grid(padding=(0, 2))
        for child in self.processes.children:
            done = "done" if child.process.poll() == 0 else child.last_line()
            table.add_row(Text(child.name, style="cyan"), Text(done, overflow="ellipsis", no_wrap=True))
        return Group(head, table)

    def tick(self) -> None:
        """Print a line now and then where a live display is impossible."""
        now = time.monotonic()
        if not self.console.is_terminal and now - self._last_line >= LINE_SECONDS:
            self._last_line = now
            clients = [c for c in self.processes.children if c.process.poll() is None and c.name not in _SERVICES]
            busy = [c for word in ("epoch", "round") for c in clients if word in c.last_line()]
            said = "; ".join(f"{c.name}: {c.last_line()}" for c in busy[:2])
            self.console.print(f"{now - self.started:4.0f} s  {self.stage}  {said}", soft_wrap=True, highlight=False)


@dataclass(frozen=True)
class Demo:
    """What is run.

    Attributes:
        dataset: A folder or a PyKEEN data set.
        clients: How many the relations are dealt to.
        interactions: Trained one after the other.
        seed: Of the deal and of every training.
        folder: Where data, logs, clients' homes and results are written.
        rounds: At most so many; None is the preset.
    """

    dataset: str
    clients: int
    interactions: Sequence[InteractionName]
    seed: int
    folder: Path
    rounds: int | None

    def run(self, console: Console) -> list[ClientResult]:
        """Run it; returns every client's rows in every mode and writes `results.json`.

        Raises:
            DataError: The data set cannot be read or dealt.
            ProcessFailed: A process ended with an error.
        """
        names = self._deal(console)
        with Processes(self.folder / "logs") as processes:
            display = Display(console, processes)
            with Live(display, console=console, transient=True, refresh_per_second=4) as live:
                if not console.is_terminal:
                    live.stop()
                scorer, coordinator = self._services(processes, display)
                results = []
                for interaction in self.interactions:
                    display.stage = f"training {interaction}"
                    results += self._train(processes, interaction, names, scorer, coordinator, display.tick)
        write(self.folder / "results.json", rows(results))
        return results

    def _deal(self, console: Console) -> list[str]:
        graph = read_dataset(self.dataset)
        names = [f"client_{i}" for i in range(self.clients)]
        for name, parts in zip(names, deal(graph, self.clients, self.seed), strict=True):
            write_folder(self.folder / "data" / name, parts)
        entities, relations = len(graph.entities), len(graph.relations)
        console.print(f"{self.dataset}: {entities} entities, {relations} relations, dealt to {self.clients} clients")
        return names

    def _services(self, processes: Processes, display: Display) -> tuple[str, str]:
        display.stage = "starting the scorer and the coordinator"
        folder = self.folder / "secrets"
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        for name in ("invitation", "operator"):
            (folder / name).write_text(secrets.token_hex(32))
        # Entity keys decide where entity rows start. Nothing is hidden from anybody on one machine, so a key made from
        # the seed costs nothing and lets the same seed give the same table.
        (folder / "shared-key").write_text(hashlib.sha256(f"demo {self.seed}".encode()).hexdigest())
        scorer = processes.serve("scorer", "services.scorer.app:create_app", _SCORER)
        environment = {
            "COORDINATOR_DATA_DIR": str(self.folder / "coordinator"),
            "COORDINATOR_INVITATION_TOKEN_FILE": str(folder / "invitation"),
            "COORDINATOR_OPERATOR_TOKEN_FILE": str(folder / "operator"),
        }
        coordinator = processes.serve("coordinator", "services.coordinator.app:create_app", environment)
        processes.wait_ready(scorer, display.tick)
        processes.wait_ready(coordinator, display.tick)
        return scorer, coordinator

    def _train(
        self,
        processes: Processes,
        interaction: InteractionName,
        names: list[str],
        scorer: str,
        coordinator: str,
        tick: Callable[[], None],
    ) -> list[ClientResult]:
        """One interaction in all modes: the federated clients and the pooled reference side by side."""
        folders = {name: self.folder / "data" / name for name in names}
        secret = {name: str(self.folder / "secrets" / name) for name in ("shared-key", "invitation", "operator")}
        shared = ["--interaction", interaction, "--scorer", scorer, "--seed", str(self.seed)]
        shared += ["--rounds", str(self.rounds)] if self.rounds else []
        shared += ["--layer", "last"] if interaction == "llama" else []  # it has one
        address = ["--coordinator", coordinator]
        start = ["trainer", "start", *address, "--operator-token-file", secret["operator"], *shared]
        start += ["--clients", str(self.clients), "--quorum", str(self.clients)]
        processes.wait_all([processes.start(f"start-{interaction}", start)], tick)
        working: list[Child] = []
        for name, folder in folders.items():
            join = ["trainer", "join", *address, "--data", str(folder), "--name", name, "--scorer", scorer]
            join += ["--home", str(self.folder / "homes" / name)]
            join += ["--shared-key-file", secret["shared-key"], "--invitation-file", secret["invitation"]]
            working.append(processes.start(f"{name}-{interaction}", join))
        pooled = ["trainer", "train", *map(str, folders.values()), *shared]
        pooled += ["--out", str(self.folder / "collection" / interaction)]
        working.append(processes.start(f"collection-{interaction}", pooled))
        processes.wait_all(working, tick)
        files = [
            *self.folder.glob("homes/*/*/*/results.json"),
            self.folder / "collection" / interaction / "results.json",
        ]
        results = [result for file in files for result in read_results(file)]
        return [result for result in results if result.interaction == interaction]
