"""Bodies that the tests send to a scorer of the embedded model."""

import numpy as np

from protocol import tensors

HIDDEN = 128
ST = {"content-type": tensors.MEDIA_TYPE}
QUERY = {"entities": [{"name": "a"}], "relations": [{"name": "r"}], "queries": [[0, 0]]}


def vectors(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype("f4")


def encode_tensors(q: int = 3) -> dict[str, np.ndarray]:
    rows = np.arange(q)
    return {
        "entities": vectors(3, 2, HIDDEN),
        "relations": vectors(2, 1, HIDDEN, seed=1),
        "queries": np.stack([rows % 3, rows % 2], axis=1).astype("i4"),
        "sides": (rows % 2).astype("u1"),
    }
