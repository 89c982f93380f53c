"""Runs and records as a finished experiment leaves them, with ranks of random scores."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from protocol.rounds import Mode
from tests.trainer.support import random_graph, small_settings
from trainer.answers import Queries
from trainer.conclusion import client_result
from trainer.experiments.data import Clients
from trainer.experiments.plan import Kind, Run
from trainer.experiments.record import ClientRecord, Machine, Record, RoundRecord, Training
from trainer.metrics import Ranks
from trainer.ranking import known_answers, rank
from trainer.results import ClientResult

FEDERATED: tuple[Mode, ...] = ("isolation", "federation", "fusion")
GRAPH = random_graph(5)


def some_ranks(seed: int) -> Ranks:
    generator = np.random.default_rng(seed)

    def scores(queries: Queries) -> np.ndarray:
        return generator.normal(size=(len(queries.given), len(GRAPH.entities)))

    return rank(GRAPH.triples["test"], known_answers(GRAPH, "test"), scores)


def a_run(
    variant: str = "transe", seed: int = 0, kind: Kind = "federated", data: str = "umls", **changes: object
) -> Run:
    modes: tuple[Mode, ...] = FEDERATED if kind == "federated" else (kind,)
    clients = Clients({name: Path("data") / name for name in ("client_0", "client_1")}, "d1")
    return Run(data, variant, kind, modes, small_settings("transe", seed=seed, **changes), "cpu", clients)


def results_of(run: Run) -> list[ClientResult]:
    return [
        client_result(GRAPH, client, run.settings, mode, some_ranks(100 * run.seed + 10 * i + j))
        for i, mode in enumerate(run.modes)
        for j, client in enumerate(run.clients.folders)
    ]


def a_training() -> Training:
    sides = some_ranks(3).metrics()
    history = [
        RoundRecord(
            round=n, updates=2 if n < 5 else 0, loss=1 / n if n < 5 else None, valid=sides if n in (3, 5) else None
        )
        for n in range(1, 6)
    ]
    clients = [
        ClientRecord(client=f"client_{i}", entities=9, relations=0, triples={"train": 5}, sent=4_000_000, received=6)
        for i in range(2)
    ]
    return Training(rounds=4, best_round=4, history=history, clients=clients)


def a_record(run: Run, results: Iterable[ClientResult] | None = None) -> Record:
    return Record.of(
        run,
        machine=Machine(python="3", packages={}, git=None, cores=2),
        begun=1,
        wall_seconds=2.5,
        training=a_training() if run.kind == "federated" else None,
        results=list(results_of(run) if results is None else results),
    )


def done(*runs: Run) -> list[tuple[Run, Record]]:
    return [(run, a_record(run)) for run in runs]
