from pathlib import Path

import numpy as np
import pytest

from trainer.kept_states import KeptStates

NUMBERS = np.array([9, 2, 5])
STATES = np.arange(6, dtype=np.float32).reshape(3, 2)


def kept(file: Path | None) -> KeptStates:
    made = KeptStates(file, 2)
    made.add(NUMBERS, STATES)
    made.save()
    return made


@pytest.mark.parametrize("again", [False, True])
def test_states_are_found_by_their_numbers(tmp_path: Path, again: bool) -> None:
    states = kept(tmp_path / "states")
    if again:
        states = KeptStates(tmp_path / "states", 2)
    assert states.missing(np.array([7, 2, 7, 9, 1])).tolist() == [1, 7]
    np.testing.assert_array_equal(states.at(np.array([5, 9, 5])), STATES[[2, 0, 2]])
    states.add(np.array([7, 1]), -STATES[:2])
    np.testing.assert_array_equal(states.at(np.array([1, 2, 7])), [-STATES[1], STATES[1], -STATES[0]])


@pytest.mark.parametrize("cut", [1, 40])
def test_a_damaged_file_holds_nothing_and_is_replaced(tmp_path: Path, cut: int) -> None:
    kept(tmp_path / "states")
    (tmp_path / "states").write_bytes((tmp_path / "states").read_bytes()[:-cut])
    assert len(KeptStates(tmp_path / "states", 2)) == 0
    kept(tmp_path / "states")
    assert len(KeptStates(tmp_path / "states", 2)) == 3


def test_without_a_file_nothing_is_written(tmp_path: Path) -> None:
    assert len(kept(None)) == 3
    assert not list(tmp_path.iterdir())
