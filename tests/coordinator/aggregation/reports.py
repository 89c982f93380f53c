"""Random rounds: a last version and what clients reported, as files, and what a strategy makes of them."""

from collections.abc import Callable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file

from protocol.tensor_files import open_tensors
from protocol.tensors import Array, TensorSpec, encode
from protocol.trainings import DENSE_PREFIX, AggregationSettings
from services.coordinator.aggregation.reports import Holder
from services.coordinator.aggregation.walk import Table, aggregate

DIM, DENSE = 3, (2, 5)


@dataclass
class Report:
    """What one client holds, and what it reported; `tensors` is None where it did not."""

    rows: list[int]
    triples: int
    tensors: dict[str, Array] | None


def report(generator: np.random.Generator, rows: Sequence[int], triples: int, scale: float = 1.0) -> Report:
    tensors: dict[str, Array] = {
        "entities": (scale * generator.normal(size=(len(rows), DIM))).astype(np.float32),
        "dense.w": (scale * generator.normal(size=DENSE)).astype(np.float32),
        "frequencies": generator.integers(1, 50, len(rows)).astype(np.int32),
    }
    return Report(list(rows), triples, tensors)


def last_version(generator: np.random.Generator, entities: int) -> dict[str, Array]:
    return {
        "entities": generator.normal(size=(entities, DIM)).astype(np.float32),
        "dense.w": generator.normal(size=DENSE).astype(np.float32),
    }


def combined(
    folder: Path, previous: dict[str, Array], reports: Sequence[Report], entities: int | None = None, **settings: Any
) -> dict[str, Array]:
    """What the strategy of the settings makes of a round."""
    chosen = AggregationSettings(**settings)
    specs = {name: TensorSpec("F32", array.shape) for name, array in previous.items()}
    (folder / "last").write_bytes(encode(previous))
    holders = [_holder(folder / f"update-{i}", each) for i, each in enumerate(reports)]
    rows = previous["entities"]
    tables = [Table("entities", entities or len(rows), rows.shape[1], partial(_initial, rows.shape[1]))]
    dense = [name for name in previous if name.startswith(DENSE_PREFIX)]
    tables += [Table(name, previous[name].size, 1, partial(_initial, 1)) for name in dense]
    (folder / "next").unlink(missing_ok=True)
    with open_tensors(folder / "last", specs) as file:
        aggregate(file, tables, holders, chosen, folder / "next")
    return dict(load_file(folder / "next"))


def _initial(dim: int, start: int, stop: int) -> NDArray[np.float32]:
    return np.repeat(np.arange(start, stop, dtype=np.float32)[:, None], dim, 1)


def _holder(path: Path, each: Report) -> Holder:
    rows: Callable[[str], NDArray[np.int64]] = lambda name: np.array(each.rows, np.int64)  # noqa: E731
    if each.tensors is None:
        return Holder(each.triples, rows, None)
    path.write_bytes(encode(each.tensors))
    specs = {
        name: TensorSpec("I32" if array.dtype == np.int32 else "F32", array.shape)
        for name, array in each.tensors.items()
    }

    @contextmanager
    def opened(specs: dict[str, TensorSpec]) -> Any:
        with open_tensors(path, specs) as file:
            yield file

    return Holder(each.triples, rows, partial(opened, specs))
