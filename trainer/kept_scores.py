"""Scores that a scorer has given, on disk: what was asked once is not asked again, whichever model's list asks.

A file holds the scores of one origin: one scorer, template and set of texts. A rerun and a model of another seed find
theirs there.
"""

from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from trainer.answers import Ints
from trainer.files import Damaged, load_arrays, save_arrays

Scores = NDArray[np.float32]


class KeptScores:
    """The scores of one origin, by key.

    Args:
        path: Of the file; where there is none, or a damaged one, it begins anew.
        origin: What the scores depend on beside their keys; a file of another origin is not read.
    """

    def __init__(self, path: Path, origin: dict[str, Any]) -> None:
        self._path, self._origin = path, origin
        self._keys, self._scores = self._read()

    def find(self, keys: Ints) -> Scores:
        """Scores float32 [n] of keys int64 [n]; NaN where none is known."""
        found = np.full(len(keys), np.nan, dtype=np.float32)
        at = np.searchsorted(self._keys, keys)
        known = np.flatnonzero(at < len(self._keys))
        known = known[self._keys[at[known]] == keys[known]]
        found[known] = self._scores[at[known]]
        return found

    def add(self, keys: Ints, scores: Scores) -> None:
        """Know further scores; those that are NaN are not known."""
        read = ~np.isnan(scores)
        self._merge(keys[read], scores[read])

    def save(self) -> None:
        """Write the file, with what other processes have put into it meanwhile."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{self._path}.lock"):
            self._merge(*self._read())
            save_arrays(self._path, {"keys": self._keys, "scores": self._scores}, origin=self._origin)

    def _merge(self, keys: Ints, scores: Scores) -> None:
        self._keys, first = np.unique(np.concatenate([self._keys, keys]), return_index=True)
        self._scores = np.concatenate([self._scores, scores])[first]

    def _read(self) -> tuple[Ints, Scores]:
        try:
            arrays, message = load_arrays(self._path)
        except (FileNotFoundError, Damaged):
            arrays, message = {}, {}
        if message.get("origin") != self._origin:
            return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.float32)
        return arrays["keys"], arrays["scores"]
