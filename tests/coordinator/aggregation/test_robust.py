from pathlib import Path

import numpy as np
import pytest

from .reports import Report, combined

PREVIOUS = {"entities": np.zeros((1, 1), np.float32)}


def of(tmp_path: Path, values: list[float], **settings: object) -> float:
    reports = [Report([0], 1, {"entities": np.array([[value]], np.float32)}) for value in values]
    return float(combined(tmp_path, PREVIOUS, reports, **settings)["entities"][0, 0])


@pytest.mark.parametrize(("values", "middle"), [([7], 7), ([1, 4], 2.5), ([9, -9, 1], 1), ([1e6, 1, 2, -1e6], 1.5)])
def test_median(tmp_path: Path, values: list[float], middle: float) -> None:
    assert of(tmp_path, values, strategy="median") == middle


@pytest.mark.parametrize(
    ("values", "trim", "mean"),
    [
        ([1, 4], 0.2, 2.5),
        ([1, 2, 3, 4, 1e6], 0.2, 3),
        ([1, 2, 3, 4, 1e6], 0.19, 200_002),
        ([*range(99), 1e6], 0.29, 49.5),
        # The largest trim there is: of an even number, the middle two are left.
        ([1, 2, 3, 4, 5, 6], float(np.nextafter(0.5, 0)), 3.5),
        ([1, 2], float(np.nextafter(0.5, 0)), 1.5),
    ],
)
def test_trimmed_mean(tmp_path: Path, values: list[float], trim: float, mean: float) -> None:
    assert of(tmp_path, values, strategy="trimmed_mean", trim=trim) == pytest.approx(mean)
