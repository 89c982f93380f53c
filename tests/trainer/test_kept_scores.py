from pathlib import Path

import numpy as np
import pytest

from trainer.kept_scores import KeptScores, Scores

ORIGIN = {"model": "a", "revision": None}


def keys(*numbers: int) -> np.ndarray:
    return np.array(numbers, dtype=np.int64)


def scores(*numbers: float) -> Scores:
    return np.array(numbers, dtype=np.float32)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    kept = KeptScores(tmp_path / "new" / "a.safetensors", ORIGIN)
    kept.add(keys(7, 3), scores(0.7, 0.3))
    kept.add(keys(5, 9), scores(0.5, np.nan))
    kept.save()
    return tmp_path / "new" / "a.safetensors"


def test_scores_are_found_by_key_in_another_process_and_unread_ones_are_asked_again(path: Path) -> None:
    found = KeptScores(path, ORIGIN).find(keys(9, 5, 3, 10, 7, 1, 3))
    np.testing.assert_array_equal(found, scores(np.nan, 0.5, 0.3, np.nan, 0.7, np.nan, 0.3))
    again = KeptScores(path, ORIGIN)
    again.add(keys(9), scores(0.9))
    np.testing.assert_array_equal(again.find(keys(9)), scores(0.9))


def test_two_processes_that_keep_scores_lose_none(path: Path) -> None:
    first, second = KeptScores(path, ORIGIN), KeptScores(path, ORIGIN)
    first.add(keys(1), scores(0.1))
    second.add(keys(2), scores(0.2))
    first.save()
    second.save()
    np.testing.assert_array_equal(KeptScores(path, ORIGIN).find(keys(1, 2, 3)), scores(0.1, 0.2, 0.3))


@pytest.mark.parametrize("damage", [b"", b"not a file of scores", None])
def test_a_damaged_file_begins_anew(path: Path, damage: bytes | None) -> None:
    path.write_bytes(path.read_bytes()[:-3] if damage is None else damage)
    kept = KeptScores(path, ORIGIN)
    assert np.isnan(kept.find(keys(3, 5, 7))).all()
    kept.add(keys(4), scores(0.4))
    kept.save()
    np.testing.assert_array_equal(KeptScores(path, ORIGIN).find(keys(4, 5)), scores(0.4, np.nan))


def test_scores_of_another_origin_are_not_taken(path: Path) -> None:
    assert np.isnan(KeptScores(path, ORIGIN | {"revision": "b"}).find(keys(3, 5, 7))).all()
