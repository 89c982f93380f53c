"""Where every training starts: pure functions of its seed and an entity's or relation's key, or a tensor's name.

Everybody starts from the same place, whoever joined first, and a row can be made again at any time. The numbers are
read from SHAKE-256, whose output is the same on every machine and in every version of numpy.
"""

import hashlib
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from protocol.trainings import DENSE_PREFIX, TrainingSettings
from services.coordinator.store.queries import Kind

Floats = NDArray[np.float32]


def initial_rows(settings: TrainingSettings, kind: Kind, keys: Sequence[bytes]) -> Floats:
    """Initial rows of entities or relations, float32 [len(keys), columns], uniform in the bounds that are set."""
    if kind == "entities":
        label, columns, bound = "entity", settings.dim, settings.entity_init
    else:
        assert settings.relation_dim is not None
        label, columns, bound = "relation", settings.relation_dim, settings.relation_init
    rows = np.empty((len(keys), columns), np.float32)
    for row, key in zip(rows, keys, strict=True):
        row[:] = _uniform(f"{label}/{settings.seed}/{key.hex()}", columns, bound)
    return rows


def dense_tensors(settings: TrainingSettings) -> dict[str, Floats]:
    """The initial shared dense tensors, float32, by their name on the wire."""
    return {
        DENSE_PREFIX + name: _uniform(f"dense/{settings.seed}/{name}", math.prod(dense.shape), dense.init).reshape(
            dense.shape
        )
        for name, dense in settings.dense.items()
    }


def _uniform(label: str, count: int, bound: float) -> Floats:
    digest = hashlib.shake_256(f"tripleherd/{label}".encode()).digest(4 * count)
    fractions = np.frombuffer(digest, "<u4") / 2.0**32
    return ((2.0 * fractions - 1.0) * bound).astype(np.float32)
