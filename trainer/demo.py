"""Everything on this machine: an experiment on one deal of one graph, with a scorer, a coordinator and clients."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from protocol.trainings import InteractionName
from trainer.experiments.experiment import Laboratory
from trainer.experiments.record import cores
from trainer.experiments.schema import Experiment
from trainer.processes import ProcessFailed
from trainer.results import ClientResult, rows, write

_LLAMA = {"local": {"layer": 1}}
"""Of the embedded model: later layers cost more, and a first training should take minutes."""


@dataclass(frozen=True)
class Demo:
    """What is run.

    Attributes:
        dataset: A folder or a PyKEEN data set.
        clients: How many the relations are dealt to.
        interactions: Trained in all four modes.
        seed: Of the deal and of every training.
        folder: Where data, runs with their logs and models, and results are written.
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
        # Clients of a federated training wait for each other; the pooled one beside them fills the gaps.
        jobs = max(cores(), self.clients + 1)
        outcome = Laboratory(self._experiment(), Path(), self.folder, jobs, console, lambda done: None).carry_out()
        if outcome.failed:
            raise ProcessFailed(outcome.failed[0][1])
        results = [result for _, record in outcome.done for result in record.results]
        write(self.folder / "results.json", rows(results))
        return results

    def _experiment(self) -> Experiment:
        variants = {name: {"interaction": name} | (_LLAMA if name == "llama" else {}) for name in self.interactions}
        described = {
            "name": "demo",
            "data": {"graph": {"dataset": self.dataset, "split": {"clients": self.clients}}},
            "variants": variants,
            "defaults": {"rounds": self.rounds},
            "seeds": [self.seed],
        }
        return Experiment.model_validate(described)
