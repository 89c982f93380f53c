import hashlib

import numpy as np
from numpy.typing import NDArray

from services.coordinator.rounds.initial import dense_tensors, initial_rows

from ..support import settings

Floats = NDArray[np.float32]
KEYS = [hashlib.sha256(bytes([i])).digest() for i in range(200)]


def entity_rows(seed: int, keys: list[bytes], dim: int, bound: float) -> Floats:
    return initial_rows(settings(seed=seed, dim=dim, entity_init=bound), "entities", keys)


def test_rows_are_reproducible() -> None:
    rows = entity_rows(7, KEYS[:3], 8, 0.05)
    assert (
        hashlib.sha256(rows.tobytes()).hexdigest() == "7f31fa5feb5181350b3c9ef66e943a31e8a381f85864576e1875bc205f62a406"
    )


def test_dense_tensors_are_reproducible() -> None:
    tensors = dense_tensors(settings(seed=7, dense={"w": {"shape": [2, 3], "init": 0.1}, "b": {"shape": [3]}}))
    assert (
        hashlib.sha256(tensors["dense.w"].tobytes()).hexdigest()
        == "cd2abe3066f1b4e6870fdef0d54ea0cbebc5a3dffd1bc1717bcca22a3812d63b"
    )
    assert tensors["dense.w"].shape == (2, 3)
    assert not tensors["dense.b"].any()


def test_rows_do_not_depend_on_their_neighbours() -> None:
    rows = entity_rows(1, KEYS, 4, 0.5)
    assert np.array_equal(entity_rows(1, KEYS[::-1], 4, 0.5), rows[::-1])
    assert not np.array_equal(entity_rows(2, KEYS, 4, 0.5), rows)


def test_rows_are_uniform_in_their_range() -> None:
    rows = entity_rows(0, KEYS, 64, 0.05)
    assert rows.dtype == np.float32
    assert np.abs(rows).max() <= np.float32(0.05)
    counts, _ = np.histogram(rows, bins=10, range=(-0.05, 0.05))
    assert counts.min() > 0.9 * rows.size / 10


def test_relations_start_elsewhere_than_entities_of_the_same_key() -> None:
    fixed = settings(dim=4, share="both", relation_dim=4, relation_init=0.05)
    relations = initial_rows(fixed, "relations", KEYS)
    assert relations.shape == (200, 4)
    assert not np.isin(relations, initial_rows(fixed, "entities", KEYS)).any()
