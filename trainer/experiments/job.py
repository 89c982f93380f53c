"""A training without a coordinator as a process of its own: `python -m trainer.experiments.job FILE`.

The file says what; `running` writes it. Where it is done, `results.json` stands in its `out`.
"""

import sys
from collections.abc import Mapping
from pathlib import Path

from rich.console import Console

from protocol.messages import Strict
from protocol.rounds import Mode
from protocol.trainings import TrainingSettings
from trainer.alone import train_and_measure
from trainer.collection import pool
from trainer.devices import usable_device
from trainer.graph import Graph
from trainer.inputs import ScorerAt, graph_of, progress, scorer_for, secret_in
from trainer.interactions import interaction_of
from trainer.membership import opaque_order
from trainer.prompting import prompting_of
from trainer.results import table
from trainer.seeds import seed_of


class Job(Strict):
    """One training.

    Attributes:
        mode: `isolation` of one client, as that client would train it at the end of a federated training, bit for bit;
            or `collection` of all.
        settings: The training's.
        clients: Their folders.
        shared_key_file: The clients' shared key, by which they number what they hold.
        device: Where the model's tensors are.
        scorer: Address of the scorer.
        scorer_key_file: Its key.
        out: Gets the model and the results.
    """

    mode: Mode
    settings: TrainingSettings
    clients: dict[str, Path]
    shared_key_file: Path
    device: str
    scorer: str | None
    scorer_key_file: Path | None
    out: Path

    def run(self, console: Console) -> None:
        """Train, measure, write, and print the table."""
        settings = self.settings
        with progress(console) as (say, now):
            graphs = {name: graph_of(str(folder), say) for name, folder in self.clients.items()}
            graph, seed = self._trained_on(graphs)
            sources = [str(folder) for folder in self.clients.values()]
            prompting = prompting_of(settings, graph, sources, self.out, say, now)
            with scorer_for(settings.interaction, ScorerAt(self.scorer, self.scorer_key_file), say, settings) as frozen:
                device = usable_device(self.device)
                interaction = interaction_of(settings.interaction, frozen, settings.local, device, prompting)
                results = train_and_measure(graph, graphs, self.mode, settings, interaction, seed, self.out, say, now)
        console.print(table(results, f"{self.mode}, both sides, weighted by test triples"))

    def _trained_on(self, graphs: Mapping[str, Graph]) -> tuple[Graph, int]:
        """The graph that is trained on, and the seed."""
        if self.mode == "collection":
            return pool(list(graphs.values())), seed_of(self.settings.seed, "collection")
        ((name, graph),) = graphs.items()
        key = secret_in(self.shared_key_file).encode()
        return opaque_order(graph, key), seed_of(self.settings.seed, name, "isolation")


def main() -> None:
    """Read the job and run it."""
    Job.model_validate_json(Path(sys.argv[1]).read_bytes()).run(Console())


if __name__ == "__main__":
    # Here alone: the command line itself imports this module, through `running`.
    from trainer.cli import run_program

    run_program(main)
