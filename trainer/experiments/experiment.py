"""An experiment from its description to the records of its runs: what is done is kept, and the rest is run."""

import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from filelock import FileLock, Timeout
from rich.console import Console
from rich.live import Live

from trainer.experiments import record
from trainer.experiments.data import clients_of
from trainer.experiments.plan import Run, plan
from trainer.experiments.progress import Pace, Progress
from trainer.experiments.record import Machine, Record
from trainer.experiments.running import Work
from trainer.experiments.schedule import Going, Schedule
from trainer.experiments.schema import Experiment
from trainer.files import whole
from trainer.inputs import ScorerAt, UsageError, progress, scorer_for
from trainer.output import print_line
from trainer.processes import Processes, ProcessFailed

Done = list[tuple[Run, Record]]


@dataclass
class Outcome:
    """What has become of the runs.

    Attributes:
        done: Those finished, in the order of the plan.
        failed: Those that failed, each with the end of its error.
    """

    done: Done = field(default_factory=list)
    failed: list[tuple[Run, str]] = field(default_factory=list)


@dataclass(frozen=True)
class Laboratory:
    """Where an experiment is carried out.

    Attributes:
        experiment: What is run.
        base: Where paths of the experiment begin.
        out: Gets `data`, `runs` and `logs`.
        jobs: Processes that may work at the same time.
        console: Where progress is shown.
        publish: Given what is done, at the start and after each run.
    """

    experiment: Experiment
    base: Path
    out: Path
    jobs: int
    console: Console
    publish: Callable[[Done], None]

    def carry_out(self) -> Outcome:
        """Do all runs that are not done.

        Raises:
            UsageError: The experiment cannot be run as it is described, or another one runs in the same folder.
            DataError: Its data cannot be read.
            ProcessFailed: The scorer ended with an error.
        """
        with ExitStack() as stack:
            stack.enter_context(_alone(self.out))
            data = clients_of(self.experiment, self.base, self.out / "data")
            services = stack.enter_context(Processes(self.out / "logs"))
            needed = any(self.experiment.variant(v).interaction == "llama" for v in self.experiment.variants)
            scorer = self._scorer(services) if needed else ScorerAt()
            with (
                progress(self.console) as (say, _),
                scorer_for("llama" if needed else "transe", scorer, say) as frozen,
            ):
                runs = plan(self.experiment, data, frozen)
            return self._run(runs, scorer, services)

    def _scorer(self, services: Processes) -> ScorerAt:
        choice = self.experiment.scorer
        if choice.address is not None:
            return ScorerAt(choice.address, self.base / choice.key_file if choice.key_file else None)
        self.console.print("starting the scorer")
        # As many calls at once as clients may work; never merged, or the last bits of a client's numbers would depend
        # on when the others call.
        own = {"SCORER_WORKERS": str(self.jobs), "SCORER_THREADS": "1", "SCORER_MERGE": "false"}
        url = services.serve("scorer", "services.scorer.app:create_app", own | choice.variables())
        services.wait_ready(url, lambda: None)
        return ScorerAt(url)

    def _run(self, runs: list[Run], scorer: ScorerAt, services: Processes) -> Outcome:
        records = {run: found for run in runs if (found := record.read(self._folder(run))) is not None}
        outcome, pace = Outcome([(run, records[run]) for run in runs if run in records]), Pace()
        for run, found in outcome.done:
            pace.took(run, found.wall_seconds)
        self.publish(outcome.done)
        waiting = [run for run in runs if run not in records]
        schedule = Schedule(waiting, self.jobs, lambda going: self._do(going, scorer))
        shown = Progress(self.console, schedule, len(runs), pace)

        def ended(going: Going, error: BaseException | None) -> None:
            self._ended(going, error, outcome, shown)
            outcome.done.sort(key=lambda each: runs.index(each[0]))
            self.publish(outcome.done)

        def look() -> None:
            services.check()
            shown.look()

        with Live(shown, console=self.console, transient=True, refresh_per_second=4) as live:
            if not self.console.is_terminal:
                live.stop()
            schedule.run(ended, look)
        return outcome

    def _do(self, going: Going, scorer: ScorerAt) -> None:
        """One run, from its start or from where it was left."""
        run, folder = going.run, self._folder(going.run)
        (folder / "error.txt").unlink(missing_ok=True)  # of the time before
        begun = 1 + len(list(folder.glob("logs/*")))
        with Processes(folder / "logs" / str(begun), going.children) as processes:
            training, results = Work(run, folder, scorer, processes, going.tick, partial(print_line, self.console)).do()
        made = Record.of(
            run,
            machine=Machine.here(),
            begun=begun,
            wall_seconds=going.seconds,
            training=training,
            results=results,
        )
        record.keep(folder, made)

    def _ended(self, going: Going, error: BaseException | None, outcome: Outcome, shown: Progress) -> None:
        run, folder = going.run, self._folder(going.run)
        if error is None:
            found = record.read(folder)
            assert found is not None
            outcome.done.append((run, found))
            shown.pace.took(run, going.seconds)
            shown.say(f"{run.label}: done in {going.seconds:.0f} s")
            return
        if not isinstance(error, Exception):
            raise error
        text = str(error) if isinstance(error, ProcessFailed) else "".join(traceback.format_exception(error))
        with whole(folder / "error.txt") as out:
            out.write(text.encode())
        shown.failed += 1
        outcome.failed.append((run, text))
        shown.say(f"{run.label}: failed; see {folder / 'error.txt'}")

    def _folder(self, run: Run) -> Path:
        return self.out / "runs" / run.folder


@contextmanager
def _alone(out: Path) -> Iterator[None]:
    """Keep other experiments out of the folder."""
    out.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(out / ".lock", timeout=0):
            yield
    except Timeout as error:
        raise UsageError(f"{out}: an experiment is running there; give --out another folder") from error
