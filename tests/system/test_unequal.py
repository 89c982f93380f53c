"""Clients of very unlike size, some of them drawn for each round, against the same federation written out in numpy."""

import sqlite3
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load

from protocol.keys import entity_keys
from protocol.trainings import TrainingSettings
from services.coordinator.rounds.initial import initial_rows
from tests.system.conftest import System
from trainer.answers import Answers
from trainer.graph import Graph, read_folder, write_folder
from trainer.interactions import interaction_of
from trainer.membership import opaque_order
from trainer.model import Model
from trainer.results import read_results
from trainer.seeds import seed_of
from trainer.sharing import fresh_rows
from trainer.training import Trainer

Rows = dict[str, NDArray[np.float32]]
SIZES = (4, 60, 400)
ROUNDS = 5


def write_graphs(system: System) -> None:
    """Sizes differ by a hundred; the third client's `only-…` entities are nobody else's."""
    random = np.random.default_rng(0)
    (system.folder / "data").unlink(missing_ok=True)
    for number, size in enumerate(SIZES):
        names = [f"e{i}" for i in range(20)] + [f"only-{i}" for i in range(20 if number == 2 else 0)]
        columns = (
            random.integers(len(names), size=size),
            random.integers(3, size=size),
            random.integers(len(names), size=size),
        )
        triples = [(names[h], f"r{r}", names[t]) for h, r, t in np.stack(columns, axis=1)]
        parts = {"train": triples, "valid": triples[: size // 4 or 1], "test": triples[-(size // 4 or 1) :]}
        write_folder(system.folder / f"graphs/client_{number}", parts)
    (system.folder / "data").symlink_to(system.folder / "graphs")


def drawn(system: System) -> list[tuple[int, list[str]]]:
    """Rounds with the names of the clients that were drawn to train."""
    with sqlite3.connect(f"file:{system.folder / 'state/coordinator.sqlite3'}?mode=ro", uri=True) as database:
        question = (
            "SELECT selections.round, clients.name FROM selections JOIN clients ON clients.id = selections.client "
            "WHERE selections.phase = 'training' ORDER BY selections.round, clients.id"
        )
        found: dict[int, list[str]] = {}
        for number, name in database.execute(question):
            found.setdefault(number, []).append(name)
    return sorted(found.items())


def replay(system: System, settings: TrainingSettings, best: int) -> Rows:
    """Entity rows by key in the best version, by FedE's rule: the mean of those who trained them, else unchanged."""
    key = (system.folder / "shared-key").read_bytes()
    graphs: Mapping[str, Graph] = {
        f"client_{i}": opaque_order(read_folder(system.folder / f"data/client_{i}"), key) for i in range(3)
    }
    keys = {name: entity_keys(key, graph.entities) for name, graph in graphs.items()}
    interaction = interaction_of(settings.interaction, local=settings.local)
    rows = {k: initial_rows(settings, "entities", [bytes.fromhex(k)])[0] for each in keys.values() for k in each}
    own = {name: fresh_rows(graph, interaction, settings, name) for name, graph in graphs.items()}
    for number, names in drawn(system):
        if number >= best:
            break
        reported: dict[str, list[NDArray[np.float32]]] = {}
        for name in names:
            model = Model.of_state(interaction, {"entities": np.stack([rows[k] for k in keys[name]]), **own[name]})
            answers = Answers.of(graphs[name].train, settings.local.sides)
            trainer = Trainer(model, answers, settings.local, seed_of(settings.seed, name, number))
            for epoch in range(settings.local.local_epochs):
                trainer.epoch(epoch / 100)
            state = model.state()
            own[name] = {"relations": state["relations"]}
            for k, row in zip(keys[name], state["entities"], strict=True):
                reported.setdefault(k, []).append(row)
        rows |= {k: np.mean(found, axis=0, dtype=np.float64).astype(np.float32) for k, found in reported.items()}
    return rows


def test_it_is_fede_whoever_is_drawn_and_however_unlike_they_are(system: System) -> None:
    write_graphs(system)
    system.start_coordinator()
    options = ["--rounds", str(ROUNDS), "--evaluate-every", "1", "--patience", "9", "--dim", "12"]
    system.start_training("transe", "--fraction", "0.6", "--quorum", "2", *options)
    system.wait(system.start_clients())

    (training,) = system.rounds().trainings
    assert training.best_version is not None
    model = load(system.model())
    served = {bytes(k).hex(): row for k, row in zip(model["entity_keys"], model["entities"], strict=True)}
    expected = replay(system, training.settings, training.best_version)
    assert {len(names) for _, names in drawn(system)} == {2}
    assert served.keys() == expected.keys()
    for key, row in expected.items():
        np.testing.assert_allclose(served[key], row, rtol=0, atol=1e-6)
    # Every client has its rows, ranked among its own entities.
    results = [r for file in system.folder.glob("homes/*/*/*/results.json") for r in read_results(file)]
    assert {(r.client, r.mode) for r in results} == {
        (f"client_{i}", mode) for i in range(3) for mode in ("isolation", "federation", "fusion")
    }
    assert {r.client: r.candidates for r in results}["client_2"] == 40
