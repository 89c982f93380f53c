"""States that never change, by number: asked for once, kept in memory and in a file."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from trainer.files import Damaged, load_arrays, save_arrays

Ints = NDArray[np.int64]
Floats = NDArray[np.float32]


class KeptStates:
    """What is known, and the file that it was read from.

    Args:
        file: Holds what was saved; a missing or damaged one holds nothing. None keeps no file.
        hidden: Columns of a state.
    """

    def __init__(self, file: Path | None, hidden: int) -> None:
        self.file = file
        self._numbers: Ints = np.zeros(0, dtype=np.int64)
        self._states: Floats = np.zeros((0, hidden), dtype=np.float32)
        if file is not None:
            try:
                arrays, _ = load_arrays(file)
            except (FileNotFoundError, Damaged):
                return
            self._numbers, self._states = arrays["numbers"], arrays["states"]

    def __len__(self) -> int:
        return len(self._numbers)

    def missing(self, numbers: Ints) -> Ints:
        """Those of the numbers that have no state, each once, ascending."""
        missing: Ints = np.setdiff1d(numbers, self._numbers)
        return missing

    def add(self, numbers: Ints, states: Floats) -> None:
        """Keep states [n, hidden] of numbers that had none, each once."""
        together = np.concatenate([self._numbers, numbers])
        order = np.argsort(together)
        self._numbers = together[order]
        self._states = np.concatenate([self._states, states])[order]

    def at(self, numbers: Ints) -> Floats:
        """The states [n, hidden] of numbers that have one."""
        states: Floats = self._states[np.searchsorted(self._numbers, numbers)]
        return states

    def save(self) -> None:
        """Write the file, if there is one."""
        if self.file is not None:
            save_arrays(self.file, {"numbers": self._numbers, "states": self._states})
