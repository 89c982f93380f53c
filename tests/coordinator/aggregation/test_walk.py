"""The walk over tables: the same bytes as a plain loop, whatever is held in which order, and memory that stays flat."""

import tracemalloc
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from protocol.tensor_files import open_tensors
from protocol.tensors import Array, TensorSpec, encode
from protocol.trainings import AggregationSettings, StrategyName
from services.coordinator.aggregation import reports as reading
from services.coordinator.aggregation import walk
from services.coordinator.aggregation.reports import Holder
from services.coordinator.aggregation.walk import Table, aggregate

from .reports import Report, combined, last_version, report


def plain_mean(previous: dict[str, Array], reports: list[Report]) -> dict[str, Array]:
    """FedE's mean with the whole model in memory: float64 sums in the order of clients."""
    sums, counts = np.zeros(previous["entities"].shape), np.zeros(len(previous["entities"]), np.int64)
    dense, triples = np.zeros(previous["dense.w"].shape), 0
    for each in reports:
        assert each.tensors is not None
        sums[each.rows] += each.tensors["entities"]
        counts[each.rows] += 1
        dense += each.triples * each.tensors["dense.w"].astype(np.float64)
        triples += each.triples
    entities, reported = previous["entities"].copy(), counts > 0
    entities[reported] = sums[reported] / counts[reported, None]
    return {"entities": entities, "dense.w": (dense / triples).astype(np.float32)}


HELD = st.one_of(
    st.lists(st.integers(0, 39), min_size=1, unique=True),
    st.tuples(st.integers(0, 39), st.integers(1, 40)).map(lambda run: list(range(run[0], min(40, sum(run))))),
)


@settings(deadline=None, database=None, max_examples=60)
@given(held=st.lists(HELD, min_size=1, max_size=5), sums=st.sampled_from([1, 300, 4 << 20]), scale=st.floats(1e-6, 1e6))
def test_the_mean_is_the_plain_one_bit_for_bit(
    tmp_path_factory: pytest.TempPathFactory, held: list[list[int]], sums: int, scale: float
) -> None:
    generator = np.random.default_rng(len(held))
    previous = last_version(generator, 40)
    reports = [report(generator, rows, 3 * i + 1, scale) for i, rows in enumerate(held)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(walk, "SUMS_BYTES", sums)
        result = combined(tmp_path_factory.mktemp("round"), previous, reports, strategy="mean")
    for name, wanted in plain_mean(previous, reports).items():
        assert result[name].tobytes() == wanted.tobytes()


def test_frequencies_of_none_count_as_no_report(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    previous = last_version(generator, 3)
    made = [report(generator, [0, 1, 2], 1) for _ in range(2)]
    for each, frequencies in zip(made, ([0, 0, 2**31 - 1], [0, 3, 1]), strict=True):
        assert each.tensors is not None
        each.tensors["frequencies"] = np.array(frequencies, np.int32)
    result = combined(tmp_path, previous, made, strategy="frequency")["entities"]
    first, second = (each.tensors["entities"] for each in made if each.tensors)
    assert result[0].tobytes() == previous["entities"][0].tobytes()
    assert np.array_equal(result[1], second[1])
    np.testing.assert_allclose(result[2], first[2], rtol=1e-6, atol=1e-8)


def test_a_clipped_change_of_a_dense_tensor_is_that_of_all_its_numbers(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    previous = last_version(generator, 2) | {"dense.w": np.zeros((700, 800), np.float32)}
    each = report(generator, [0], 1)
    assert each.tensors is not None
    each.tensors["dense.w"] = generator.normal(size=(700, 800)).astype(np.float32)
    result = combined(tmp_path, previous, [each], strategy="clipped_mean", clip=2.0)["dense.w"]
    assert np.linalg.norm(result.astype(np.float64)) == pytest.approx(2.0, rel=1e-5)


@pytest.mark.parametrize(
    ("strategy", "order"),
    [("mean", "run"), ("mean", "any"), ("clipped_mean", "any"), ("median", "any"), ("adam", "any")],
)
def test_memory_grows_neither_with_clients_nor_with_rows(
    tmp_path: Path, strategy: StrategyName, order: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(walk, "SUMS_BYTES", 1 << 18)
    monkeypatch.setattr(walk, "STACK_BYTES", 1 << 22)
    monkeypatch.setattr(reading, "PIECE_BYTES", 1 << 16)
    few, many = peak(tmp_path, strategy, order, 10, 2_000), peak(tmp_path, strategy, order, 40, 4_000)
    assert many < 1.1 * few + (1 << 18)


def peak(folder: Path, strategy: StrategyName, order: str, clients: int, rows: int) -> int:
    """Bytes in use at most while so many clients' updates, of the same rows, are aggregated."""
    table = np.zeros((rows, 64), np.float32)
    specs = {"entities": TensorSpec("F32", table.shape)}
    wanted = specs | {"frequencies": TensorSpec("I32", (rows,))}
    (folder / "last").write_bytes(encode({"entities": table}))
    (folder / "update").write_bytes(encode({"entities": table + 1, "frequencies": np.ones(rows, np.int32)}))
    held = folder / "rows.npy"
    np.save(held, np.arange(rows) if order == "run" else np.random.default_rng(0).permutation(rows))

    def rows_of(name: str) -> NDArray[np.int64]:
        return np.asarray(np.load(held))

    holders = [Holder(1, rows_of, partial(open_tensors, folder / "update", wanted)) for _ in range(clients)]
    (folder / "next").unlink(missing_ok=True)
    with open_tensors(folder / "last", specs) as last:
        tables = [Table("entities", rows, 64, lambda start, stop: np.zeros((stop - start, 64), np.float32))]
        tracemalloc.start()
        aggregate(last, tables, holders, AggregationSettings(strategy=strategy), folder / "next")
        used = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    return used
