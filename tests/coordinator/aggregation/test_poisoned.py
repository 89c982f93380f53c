"""One client of six sends poisoned rows in every round of a small real training: what that costs the other five.

The training is UMLS, its relations dealt to six clients, with TransE. The attacker trains as the others do, and sends
its rows multiplied by -100.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from protocol.tensors import Array
from protocol.trainings import LocalSettings, TrainingSettings
from trainer.answers import Answers
from trainer.dataset import read_dataset
from trainer.graph import Graph
from trainer.interactions import interaction_of
from trainer.local import fresh_model, valid_mrr
from trainer.model import Model
from trainer.split import deal
from trainer.training import Trainer

from .reports import Report, combined

CLIENTS, ROUNDS, DIM = 6, 8, 32
INTERACTION = interaction_of("transe")
SETTINGS = TrainingSettings(
    interaction="transe", dim=DIM, local=LocalSettings(learning_rate=0.02, batch_size=256, local_epochs=2)
)

Train = Callable[..., float]


@pytest.fixture(scope="module")
def graphs() -> list[Graph]:
    return [Graph.from_names(named) for named in deal(read_dataset("umls"), CLIENTS, seed=0)]


@pytest.fixture(scope="module")
def train(graphs: list[Graph], tmp_path_factory: pytest.TempPathFactory) -> Train:
    folder = tmp_path_factory.mktemp("rounds")
    return lambda attacked, **strategy: trained_mrr(folder, graphs, attacked, strategy)


@pytest.fixture(scope="module")
def undisturbed(train: Train) -> float:
    return train(attacked=False, strategy="mean")


def trained_mrr(folder: Path, graphs: list[Graph], attacked: bool, strategy: dict[str, object]) -> float:
    """Validation MRR of the honest clients, weighted by triples, after the last round."""
    names = sorted({entity for graph in graphs for entity in graph.entities})
    place = {name: row for row, name in enumerate(names)}
    rows = [[place[entity] for entity in graph.entities] for graph in graphs]
    relations = [fresh_model(graph, INTERACTION, SETTINGS, i).state()["relations"] for i, graph in enumerate(graphs)]
    table = np.random.default_rng(0).uniform(-0.05, 0.05, (len(names), DIM)).astype(np.float32)
    for number in range(ROUNDS):
        reports = []
        for i, graph in enumerate(graphs):
            entities, relations[i] = local_round(graph, table[rows[i]], relations[i], seed=1000 * number + i)
            poisoned = attacked and i == CLIENTS - 1
            sent: dict[str, Array] = {"entities": -100 * entities if poisoned else entities}
            reports.append(Report(rows[i], len(graph.train), sent))
        table = combined(folder, {"entities": table}, reports, **strategy)["entities"]
    honest = range(CLIENTS - 1)
    models = [Model(INTERACTION, table[rows[i]], relations[i], {}) for i in honest]
    weights = [len(graphs[i].triples["valid"]) for i in honest]
    return float(np.average([valid_mrr(models[i], graphs[i], "both") for i in honest], weights=weights))


def local_round(graph: Graph, entities: Array, relations: Array, seed: int) -> tuple[Array, Array]:
    model = Model(INTERACTION, entities, relations, {})
    trainer = Trainer(model, Answers.of(graph.train), SETTINGS.local, seed)
    for _ in range(SETTINGS.local.local_epochs):
        trainer.epoch(done=0)
    state = model.state()
    return state["entities"], state["relations"]


def test_a_mean_lets_one_client_ruin_the_model_for_all(train: Train, undisturbed: float) -> None:
    assert undisturbed > 0.45
    assert train(attacked=True, strategy="mean") < 0.15


@pytest.mark.parametrize(
    "strategy",
    [
        {"strategy": "median"},
        # A third is cut at either end, so that an entity of three clients loses one of them at each.
        {"strategy": "trimmed_mean", "trim": 0.34},
        {"strategy": "clipped_mean", "clip": 0.5},
    ],
    ids=lambda strategy: strategy["strategy"],
)
def test_a_robust_one_loses_less_than_a_tenth(train: Train, undisturbed: float, strategy: dict[str, object]) -> None:
    assert train(attacked=True, **strategy) > 0.9 * undisturbed
