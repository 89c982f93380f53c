"""Counting where answers stand among all candidates: the compiled loop beneath `ranking`.

A query's scores are read once for each of its answers; nothing is sorted or copied.
"""

import numpy as np
from numpy.typing import NDArray

from trainer.loops import compiled

Floats = NDArray[np.floating]
Ints = NDArray[np.int64]


@compiled
def _passed(line: Floats, low: np.floating, high: np.floating) -> tuple[np.int32, np.int32]:
    """How many scores are above `high`, and how many reach `low`."""
    above = reached = np.int32(0)  # as wide as a score, and read by index: so many are compared at once
    for i in range(len(line)):
        above = np.int32(above + np.int32(line[i] > high))
        reached = np.int32(reached + np.int32(line[i] >= low))
    return above, reached


@compiled
def count(scores: Floats, margins: Floats, offsets: Ints, answers: Ints, starts: Ints, ends: Ints, known: Ints) -> Ints:
    """How many candidates stand above each answer, level with it, and beside it at all.

    Candidates that are known answers of the query do not count, but for the answer itself, known or not.

    Args:
        scores: float32 or float64 [q, n], finite and contiguous.
        margins: [q], of the same type: scores that differ by no more are level.
        offsets: [q + 1], the answers of query i are `answers[offsets[i]:offsets[i + 1]]`.
        answers: [p].
        starts: [q], the known answers of query i are `known[starts[i]:ends[i]]`, each once.
        ends: [q].
        known: Entities.

    Returns:
        [p, 3]: candidates above, others level, and all of them with the answer.
    """
    counts = np.empty((len(answers), 3), dtype=np.int64)
    for row in range(len(scores)):
        line = scores[row]
        for pair in range(offsets[row], offsets[row + 1]):
            own = line[answers[pair]]
            high, low = own + margins[row], own - margins[row]
            above, reached = _passed(line, low, high)
            candidates = len(line)
            for entity in known[starts[row] : ends[row]]:
                if entity != answers[pair]:
                    above -= line[entity] > high
                    reached -= line[entity] >= low
                    candidates -= 1
            counts[pair, 0], counts[pair, 1], counts[pair, 2] = above, reached - above - 1, candidates
    return counts
