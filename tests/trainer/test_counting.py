import numpy as np
import pytest

from trainer.counting import count


def reference(
    scores: np.ndarray, margins: np.ndarray, asked: list[list[int]], known: list[list[int]]
) -> list[list[int]]:
    """Candidate by candidate, in float64."""
    found = []
    for row, margin, answers, others in zip(scores.tolist(), margins.tolist(), asked, known, strict=True):
        for answer in answers:
            rivals = [s - row[answer] for e, s in enumerate(row) if e != answer and e not in others]
            above, level = sum(r > margin for r in rivals), sum(abs(r) <= margin for r in rivals)
            found.append([above, level, len(rivals) + 1])
    return found


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("margin", [0.0, 1.0])
@pytest.mark.parametrize("width", [1, 3, 300])
def test_counts_are_those_of_a_loop_over_candidates(dtype: type, margin: float, width: int) -> None:
    generator = np.random.default_rng(width)
    scores = generator.integers(-4, 5, size=(20, width)).astype(dtype)
    margins = np.full(20, margin, dtype=dtype)
    # Any number of answers and of known ones, none for one; answers that are known and others that are not.
    asked = [sorted(generator.permutation(width)[: generator.integers(4)].tolist()) for _ in scores]
    known = [sorted(generator.permutation(width)[: generator.integers(1 + width // 2)].tolist()) for _ in scores]
    offsets, ends = (np.cumsum([0, *map(len, each)]) for each in (asked, known))
    flat = [np.array([e for row in each for e in row], dtype=np.int64) for each in (asked, known)]
    found = count(scores, margins, offsets, flat[0], ends[:-1], ends[1:], flat[1])
    assert found.tolist() == reference(scores, margins, asked, known)
