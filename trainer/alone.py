"""A model trained without a coordinator, saved, and measured on the test triples of the graphs that it is for.

Isolation, where that is the one graph that it was trained on; collection, where it is all clients' pooled.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

from protocol.rounds import Mode
from protocol.trainings import TrainingSettings
from trainer.collection import restricted
from trainer.conclusion import client_result
from trainer.graph import Graph
from trainer.interactions import Interaction
from trainer.local import train_alone
from trainer.model import Model
from trainer.ranking import known_answers, rank
from trainer.reports import Report
from trainer.results import ClientResult, write_results
from trainer.saved import save_model


def train_and_measure(
    graph: Graph,
    clients: Mapping[str, Graph],
    mode: Mode,
    settings: TrainingSettings,
    interaction: Interaction,
    seed: int,
    out: Path,
    say: Report,
    now: Report,
) -> list[ClientResult]:
    """Train on a graph and rank each client's test triples among its own entities.

    Args:
        graph: What is trained on.
        clients: The graphs that are measured, by name; `graph` knows all of their names.
        mode: What the results are called.
        settings: The training's.
        interaction: As the settings name it.
        seed: Of the model and its training.
        out: Gets the model and `results.json`; made where it is missing.
        say: Told of every evaluation.
        now: Told of what is being done.
    """
    # A wrong folder is better known before the training than after it.
    out.mkdir(parents=True, exist_ok=True)
    interaction.prepare(known_answers(graph, "test").queries)
    trained = train_alone(graph, interaction, settings, seed, say, now)
    save_model(out, graph, mode, settings, dict(trained.state), interaction.texts)
    now("ranking test triples")
    results = list(_measured(graph, clients, Model.of_state(interaction, trained.state), mode, settings, say))
    write_results(out / "results.json", results)
    return results


def _measured(
    graph: Graph, clients: Mapping[str, Graph], model: Model, mode: Mode, settings: TrainingSettings, say: Report
) -> Iterator[ClientResult]:
    for name, client in clients.items():
        if not len(client.triples["test"]):
            say(f"{name}: there are no test triples to rank")
            continue
        own = restricted(model.rank_scores, graph.entities, graph.relations, client)
        ranks = rank(client.triples["test"], known_answers(client, "test"), own, settings.tie_tolerance)
        yield client_result(client, name, settings, mode, ranks)
