"""Running an experiment: its runs, and after each of them its results, tables and logs; the figures at the end."""

from dataclasses import dataclass, field
from pathlib import Path

from trainer.experiments.experiment import Laboratory, Outcome
from trainer.experiments.extras import needed
from trainer.experiments.means import Done
from trainer.experiments.plan import Run
from trainer.experiments.reading import read_experiment
from trainer.experiments.record import cores, write_lines
from trainer.experiments.schema import Experiment
from trainer.experiments.sheets import Sheet
from trainer.experiments.tables import document, sheets
from trainer.experiments.tracking import requirements, track
from trainer.files import whole
from trainer.output import Output, print_line

ERROR_LINES = 6
"""Of a failed run's error in the list at the end."""


def run_experiment(console: Output, file: Path, out: Path | None, jobs: int | None) -> bool:
    """Run what a file describes; returns whether every run is done.

    Raises:
        UsageError: The file is not right, or a package is missing; nothing has run.
        DataError: The data cannot be read.
        ProcessFailed: The scorer ended with an error.
    """
    for module in ("matplotlib", "tensorboard"):
        needed(module, "experiments")
    experiment = read_experiment(file)
    requirements(experiment.track)
    results = _Results(experiment, out or Path("results") / experiment.name)
    laboratory = Laboratory(experiment, file.parent, results.out, jobs or cores(), console, results.publish)
    try:
        outcome = laboratory.carry_out()
    except KeyboardInterrupt:
        console.print("stopped, and every process with it; the same command goes on")
        raise
    return results.conclude(console, outcome)


@dataclass
class _Results:
    """What is made of the records."""

    experiment: Experiment
    out: Path
    unlogged: list[str] = field(default_factory=list)
    _logged: set[Run] = field(default_factory=set)

    def publish(self, done: Done) -> None:
        """Write results and tables of what is done, and log it."""
        name, found = self.experiment.name, sheets(self.experiment.name, done)
        write_lines(self.out / "results.jsonl", name, done)
        for file, render in (("table.md", Sheet.markdown), ("table.tex", Sheet.latex)):
            with whole(self.out / file) as out:
                out.write(document(found, render))
        # Each run once: a tracker that cannot be reached may take minutes to say so.
        new = [(run, record) for run, record in done if run not in self._logged]
        self._logged |= {run for run, _ in new}
        self.unlogged += track(self.out, name, new, self.experiment.track)

    def conclude(self, console: Output, outcome: Outcome) -> bool:
        """Draw, print the first table, and list what failed."""
        from trainer.experiments.plots import draw

        draw(self.out / "plots", self.experiment.name, outcome.done)
        content = {
            "out": str(self.out),
            "done": [run.label for run, _ in outcome.done],
            "failed": {run.label: error for run, error in outcome.failed},
            "unlogged": self.unlogged,
        }
        console.result(content, sheets(self.experiment.name, outcome.done)[0].shown())
        print_line(console, f"{self.out}: table.md, table.tex, results.jsonl, plots, tensorboard")
        for run, error in outcome.failed:
            lines = error.rstrip().splitlines()[-ERROR_LINES:]
            print_line(console, "\n  ".join([f"failed: {run.label} (the same command tries again):", *lines]))
        for text in self.unlogged:
            print_line(console, text)
        return not outcome.failed and not self.unlogged
