"""Metrics made of where answers stand. `ranking` finds out where; docs/metrics.md has the definitions.

Ranks are realistic: of candidates that are level, an answer gets the mean position (Berrendorf et al., 2020, "On the
Ambiguity of Rank-Based Evaluation of Entity Alignment or Link Prediction Methods").
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from protocol.rounds import Metrics, SideName

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Places:
    """Where the answers of t queries stand, int64 [t] each.

    Attributes:
        above: Candidates that score higher.
        level: Other candidates that score the same.
        candidates: All candidates, the answer among them.
    """

    above: Ints
    level: Ints
    candidates: Ints

    @property
    def realistic(self) -> Floats:
        """Ranks, float64 [t], 1 is best: the mean of the best and the worst place among those that are level."""
        ranks: Floats = 1.0 + self.above + self.level / 2
        return ranks

    def metrics(self) -> Metrics:
        """The metrics of at least one place.

        AMRI is 1 - 2 sum(rank - 1) / sum(candidates - 1) (Berrendorf et al., 2020), and 0 where no answer has a rival.
        """
        ranks, rivals = self.realistic, int((self.candidates - 1).sum())
        hits = {f"hits_at_{k}": float(np.mean(ranks <= k)) for k in (1, 3, 5, 10)}
        optimistic, pessimistic = 1 + self.above, 1 + self.above + self.level
        return Metrics(
            mrr=float(np.mean(1 / ranks)),
            **hits,
            mr=float(np.mean(ranks)),
            amri=1 - 2 * float((ranks - 1).sum()) / rivals if rivals else 0.0,
            mrr_gap=float(np.mean(1 / optimistic) - np.mean(1 / pessimistic)),
        )


@dataclass(frozen=True)
class Ranks:
    """Where the tails and the heads of the same triples stand."""

    tail: Places
    head: Places

    def __len__(self) -> int:
        return len(self.tail.above)

    def metrics(self) -> dict[SideName, Metrics]:
        """The metrics over both sides and of each side alone."""
        columns = zip(vars(self.tail).values(), vars(self.head).values(), strict=True)
        both = Places(*(np.concatenate(column) for column in columns))
        return {"both": both.metrics(), "head": self.head.metrics(), "tail": self.tail.metrics()}
