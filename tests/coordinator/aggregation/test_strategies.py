"""Each strategy against its definition, written plainly in float64, row by row."""

import math
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from protocol.tensors import Array
from protocol.trainings import StrategyName
from services.coordinator.aggregation import reports as reading
from services.coordinator.aggregation import walk
from services.coordinator.aggregation.strategies import STRATEGIES

from .reports import DENSE, Report, combined, last_version, report

Doubles = NDArray[np.float64]
ENTITIES = 30


@pytest.fixture
def generator() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture
def reports(generator: np.random.Generator) -> list[Report]:
    """Overlapping rows in any order; one client holds rows one behind the other, one did not report."""
    held = [list(generator.permutation(ENTITIES - 4)[:count]) for count in (9, 14, 20, 17)]
    made = [report(generator, rows, 10 * (i + 1)) for i, rows in enumerate(held)]
    made.append(report(generator, range(5, 17), 7))
    made.append(Report([0, 1, 2, 27], 30, None))
    return made


def of_row(reports: list[Report], row: int) -> tuple[Doubles, Doubles]:
    """What was reported of a row, [clients, dim], and the frequencies."""
    found = [(r.tensors, r.rows.index(row)) for r in reports if r.tensors and row in r.rows]
    values = np.array([tensors["entities"][at] for tensors, at in found], np.float64).reshape(len(found), 3)
    return values, np.array([tensors["frequencies"][at] for tensors, at in found], np.float64)


def silent(reports: list[Report], row: int) -> int:
    return sum(r.tensors is None and row in r.rows for r in reports)


def reference(strategy: StrategyName, before: Doubles, reports: list[Report], row: int) -> Doubles:
    """The strategy's definition for one row."""
    values, frequencies = of_row(reports, row)
    if strategy == "mean_over_all" and silent(reports, row):
        values = np.concatenate([values, [before] * silent(reports, row)])
    if not len(values):
        return before
    n, cut = len(values), math.floor(0.3 * len(values))
    change = values.mean(0) - before
    norms = np.linalg.norm(values - before, axis=1)
    clipped = before + (values - before) * np.minimum(1, 0.5 / np.maximum(norms, 1e-9))[:, None]
    return {
        "mean": values.mean(0),
        "mean_over_all": values.mean(0),
        "frequency": np.average(values, 0, frequencies if strategy == "frequency" else None),
        "median": np.median(values, 0),
        "trimmed_mean": np.sort(values, 0)[cut : n - cut].mean(0),
        "clipped_mean": clipped.mean(0),
        "momentum": before + change,
        "adam": before + 0.01 * 0.1 * change / (np.sqrt(0.99e-6 + 0.01 * change**2) + 1e-3),
        "yogi": before + 0.01 * 0.1 * change / (np.sqrt(1e-6 - 0.01 * change**2 * np.sign(1e-6 - change**2)) + 1e-3),
    }[strategy]


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_strategy_is_its_definition(
    tmp_path: Path, generator: np.random.Generator, reports: list[Report], strategy: StrategyName
) -> None:
    previous = last_version(generator, ENTITIES)
    result = combined(tmp_path, previous, reports, strategy=strategy, trim=0.3, clip=0.5)
    for row in range(ENTITIES):
        wanted = reference(strategy, previous["entities"][row].astype(np.float64), reports, row)
        np.testing.assert_allclose(result["entities"][row], wanted, rtol=2e-6, atol=1e-7)
        if not len(of_row(reports, row)[0]):
            assert result["entities"][row].tobytes() == previous["entities"][row].tobytes()


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_dense_tensors(
    tmp_path: Path, generator: np.random.Generator, reports: list[Report], strategy: StrategyName
) -> None:
    previous = last_version(generator, ENTITIES)
    before = previous["dense.w"].astype(np.float64)
    sent = [(r.tensors["dense.w"].astype(np.float64), r.triples) for r in reports if r.tensors]
    if strategy == "mean_over_all":
        sent += [(before, r.triples) for r in reports if r.tensors is None]
    values, triples = np.array([v for v, _ in sent]), [t for _, t in sent]
    if strategy == "clipped_mean":
        norms = np.linalg.norm((values - before).reshape(len(values), -1), axis=1)
        values = before + (values - before) * np.minimum(1, 0.5 / norms)[:, None, None]
    mean = np.average(values, 0, triples)
    change = mean - before
    wanted = {
        "median": np.median(values, 0),
        "trimmed_mean": np.sort(values, 0)[1:4].mean(0),
        "adam": before + 0.01 * 0.1 * change / (np.sqrt(0.99e-6 + 0.01 * change**2) + 1e-3),
        "yogi": before + 0.01 * 0.1 * change / (np.sqrt(1e-6 - 0.01 * change**2 * np.sign(1e-6 - change**2)) + 1e-3),
    }.get(strategy, mean)
    result = combined(tmp_path, previous, reports, strategy=strategy, trim=0.3, clip=0.5)
    assert result["dense.w"].shape == DENSE
    np.testing.assert_allclose(result["dense.w"], wanted, rtol=2e-6, atol=1e-7)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_blocks_and_pieces_of_any_size_give_the_same_bytes(
    tmp_path: Path,
    generator: np.random.Generator,
    reports: list[Report],
    strategy: StrategyName,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    previous = last_version(generator, ENTITIES)
    whole = combined(tmp_path, previous, reports, strategy=strategy)
    again = combined(tmp_path, previous, reports, strategy=strategy)
    for size in (1, 200):
        monkeypatch.setattr(walk, "SUMS_BYTES", size)
        monkeypatch.setattr(walk, "STACK_BYTES", size)
        monkeypatch.setattr(reading, "PIECE_BYTES", size)
        parts = combined(tmp_path, previous, reports, strategy=strategy)
        for name, tensor in whole.items():
            assert tensor.tobytes() == parts[name].tobytes() == again[name].tobytes()


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_entities_that_are_new_start_from_their_initial_rows(
    tmp_path: Path, generator: np.random.Generator, strategy: StrategyName
) -> None:
    previous = last_version(generator, 5)
    made = report(generator, [6, 2], 10)
    result = combined(tmp_path, previous, [made], entities=8, strategy=strategy)
    assert result["entities"].shape == (8, 3)
    assert (result["entities"][7] == 7).all()
    assert (result["entities"][5] == 5).all()
    assert (result["entities"][6] != 6).all()


def test_adam_remembers_and_leaves_who_was_not_reported(tmp_path: Path, generator: np.random.Generator) -> None:
    previous = last_version(generator, 3)
    first = combined(tmp_path, previous, [report(generator, [0, 1], 1)], strategy="adam")
    second = combined(tmp_path, first, [report(generator, [1], 1)], strategy="adam")
    kept: dict[str, Array] = {name: array for name, array in second.items() if name.startswith("server.")}
    assert set(kept) == {"server.m.entities", "server.v.entities", "server.m.dense.w", "server.v.dense.w"}
    for name in ("entities", "server.m.entities", "server.v.entities"):
        assert second[name][0].tobytes() == first[name][0].tobytes()
        assert (second[name][1] != first[name][1]).any()
    assert (second["server.m.entities"][2] == 0).all()
    assert np.allclose(second["server.v.entities"][2], 1e-6)


@pytest.mark.parametrize("strategy", ["median", "trimmed_mean", "clipped_mean"])
def test_one_of_five_clients_moves_no_row_far(
    tmp_path: Path, generator: np.random.Generator, strategy: StrategyName
) -> None:
    previous = last_version(generator, 20)
    honest = [report(generator, range(20), 10, scale=0.1) for _ in range(4)]
    attack = report(generator, range(20), 10, scale=1e5)
    apart = combined(tmp_path, previous, honest, strategy=strategy, trim=0.2)
    together = combined(tmp_path, previous, [*honest, attack], strategy=strategy, trim=0.2)
    plain = combined(tmp_path, previous, [*honest, attack], strategy="mean")
    assert np.abs(together["entities"] - apart["entities"]).max() < 1.5
    assert np.abs(plain["entities"] - apart["entities"]).max() > 1e4
