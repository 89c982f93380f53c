"""One run with real processes: a coordinator and its clients, or trainings without one.

Begun again after it was killed, a run goes on: the coordinator from its state, each client from its home.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from protocol.members import ClientSummary
from protocol.rounds import Mode, RoundSummary
from protocol.trainings import model_tensors
from trainer.clients.coordinator import Coordinator
from trainer.clients.retries import GIVE_UP_AFTER
from trainer.clients.service import Service
from trainer.dataset import read_dataset
from trainer.experiments import secrets
from trainer.experiments.job import Job
from trainer.experiments.plan import Run
from trainer.experiments.record import ClientRecord, RoundRecord, Training
from trainer.files import whole
from trainer.inputs import ScorerAt, secret_in
from trainer.processes import Child, Processes, ProcessFailed
from trainer.reports import Report, unheard
from trainer.results import ClientResult, read_results

PAUSE_SECONDS = 2.0
"""Between two looks at whether the coordinator has paused the training."""
Tick = Callable[[], None]


@dataclass(frozen=True)
class Work:
    """What a run works with.

    Attributes:
        run: The run.
        folder: Its own.
        scorer: Where the scorer is.
        processes: Started for this run alone.
        tick: Called while it waits; raises to stop it.
        say: Told where the run can be watched.
    """

    run: Run
    folder: Path
    scorer: ScorerAt
    processes: Processes
    tick: Tick
    say: Report

    def do(self) -> tuple[Training | None, list[ClientResult]]:
        """Do the run; returns what its coordinator knows, where there is one, and every client's rows.

        Raises:
            ProcessFailed: A process ended with an error, or the coordinator has paused the training.
        """
        secrets.write_secrets(self.folder / "secrets", self.run.seed)
        if self.run.kind == "federated" or self.run.kind == "federation":
            return self._federated()
        clients = self.run.clients.folders
        parts = {"collection": clients} if self.run.kind == "collection" else {c: {c: clients[c]} for c in clients}
        jobs = [(name, self._job(self.run.kind, name, folders)) for name, folders in parts.items()]
        # Of isolated clients, some may be done since before the run was stopped.
        open_ = [(name, job) for name, job in jobs if not (job.out / "results.json").is_file()]
        self.processes.wait_all([self._start(name, job) for name, job in open_], self.tick)
        return None, [result for _, job in jobs for result in read_results(job.out / "results.json")]

    def _job(self, mode: Mode, name: str, folders: Mapping[str, Path]) -> Job:
        return Job(
            mode=mode,
            settings=self.run.settings,
            clients=dict(folders),
            shared_key_file=self._secret(secrets.SHARED_KEY),
            device=self.run.device,
            scorer=self.scorer.url,
            scorer_key_file=self.scorer.key_file,
            out=self.folder / "models" / name,
        )

    def _start(self, name: str, job: Job) -> Child:
        file = self.folder / "jobs" / f"{name}.json"
        with whole(file) as out:
            out.write(job.model_dump_json(indent=1).encode())
        return self.processes.start(name, ["trainer.experiments.job", str(file)])

    def _federated(self) -> tuple[Training, list[ClientResult]]:
        environment = {
            "COORDINATOR_DATA_DIR": str(self.folder / "coordinator"),
            "COORDINATOR_INVITATION_TOKEN_FILE": str(self._secret(secrets.INVITATION)),
            "COORDINATOR_OPERATOR_TOKEN_FILE": str(self._secret(secrets.OPERATOR)),
            "COORDINATOR_SCORER": self.scorer.url or "",
            "COORDINATOR_SCORER_KEY_FILE": str(self.scorer.key_file or ""),
        }
        url = self.processes.serve("coordinator", "services.coordinator.app:create_app", environment)
        self.processes.wait_ready(url, self.tick)
        token = secret_in(self._secret(secrets.OPERATOR))
        with Service("coordinator", url, token, unheard) as service:
            operator = Coordinator(service)
            self._begin(operator)
            self.say(f"{self.run.label}: watch it at {operator.page()[0]}")
            clients = [self._join(url, name, folder) for name, folder in self.run.clients.folders.items()]
            self.processes.wait_all(clients, _Pauses(operator, self.tick).look)
            training = _training(operator, self.run)
        files = sorted(self.folder.glob("homes/*/*/*/results.json"))
        return training, [result for file in files for result in read_results(file)]

    def _begin(self, operator: Coordinator) -> None:
        """Start the training, or go on with the one that a stopped run has left."""
        trainings = operator.rounds(limit=1).trainings
        if not trainings:
            operator.start(self.run.settings)
        elif trainings[0].paused is not None:
            operator.resume()

    def _join(self, url: str, name: str, data: Path) -> Child:
        home = self.folder / "homes" / name
        secrets.write_client_key(home, name, self.run.seed)
        join = ["trainer", "join", "--coordinator", url, "--data", str(data), "--name", name, "--home", str(home)]
        join += ["--shared-key-file", str(self._secret(secrets.SHARED_KEY))]
        join += ["--invitation-file", str(self._secret(secrets.INVITATION))]
        join += ["--share", self.run.settings.share, "--device", self.run.device]
        join += ["--texts", "descriptions"]  # whatever the variant's training says
        join += ["--give-up-after", str(GIVE_UP_AFTER)]  # what is away here has ended
        join += [] if self.run.kind == "federated" else ["--no-fuse"]
        join += ["--scorer", self.scorer.url] if self.scorer.url else []
        join += ["--scorer-key-file", str(self.scorer.key_file)] if self.scorer.key_file else []
        return self.processes.start(name, join)

    def _secret(self, name: str) -> Path:
        return self.folder / "secrets" / name


class _Pauses:
    """Looks now and then whether the coordinator has paused the training: nobody here would resume it."""

    def __init__(self, operator: Coordinator, tick: Tick) -> None:
        self._operator, self._tick, self._last = operator, tick, time.monotonic()

    def look(self) -> None:
        """Raises:
        ProcessFailed: It has.
        """
        self._tick()
        if time.monotonic() - self._last >= PAUSE_SECONDS:
            self._last = time.monotonic()
            if (paused := self._operator.view().paused) is not None:
                raise ProcessFailed(f"the training is paused: {paused}")


def _training(operator: Coordinator, run: Run) -> Training:
    pages = list(operator.history(None))
    (summary,) = pages[0].trainings
    rounds = sorted((each for page in pages for each in page.rounds), key=lambda each: each.round)
    history = [_round(each) for each in rounds]
    evaluated = sum(each.valid is not None for each in history)
    members = sorted(operator.clients().clients, key=lambda member: member.name)
    return Training(
        rounds=summary.rounds_done,
        best_round=None if summary.best_version is None else summary.best_version - 1,
        history=history,
        clients=[_client(member, run, evaluated) for member in members],
    )


def _round(summary: RoundSummary) -> RoundRecord:
    valid = [each.sides for each in summary.evaluations if (each.mode, each.split) == ("federation", "valid")]
    return RoundRecord(
        round=summary.round, updates=summary.updates, loss=summary.loss, valid=valid[0] if valid else None
    )


def _client(member: ClientSummary, run: Run, evaluated: int) -> ClientRecord:
    # The coordinator knows of the rows that are shared alone.
    tensors = model_tensors(run.settings, member.entities, member.relations).values()
    graph = read_dataset(str(run.clients.folders[member.name]))
    return ClientRecord(
        client=member.name,
        entities=len(graph.entities),
        relations=len(graph.relations),
        triples=dict(member.triples),
        sent=member.bytes,
        received=(member.updates + evaluated) * sum(spec.nbytes for spec in tensors),
    )
