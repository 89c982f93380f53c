"""Shortlists: those few candidates that a model puts first, for another one to put in order (`reranking`).

As in `ranking`, known answers other than the one asked for are no candidates. Where the list would end among candidates
that are level, none of them is on it: nobody gets a place by the order of entities.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from protocol.messages import HEAD, TAIL
from protocol.rounds import SideName
from trainer.answers import Ints, Queries
from trainer.metrics import Ranks
from trainer.ranking import Asked, Scorer

Floats = NDArray[np.floating]


@dataclass(frozen=True)
class Shortlists:
    """The lists of p (query, answer) pairs, and what is on those, i of them, that hold their answer.

    A candidate is on the list where no more than `size` candidates, itself among them, score at least as much as it.

    Attributes:
        asked: The queries, and a filter that holds all of their answers.
        counts: int64 [p, 3], where the answers stand among all candidates, as of `counting.count`.
        pairs: int64 [i], the pairs whose answer is on its list.
        queries: Of these, i of them.
        members: int64 [i, size], the entities on each list, the answer first; -1 behind its end.
        scores: float64 [i, size], the model's own.
        tolerance: For ties, as of `trainer.ranking.rank`.
    """

    asked: Asked
    counts: Ints
    pairs: Ints
    queries: Queries
    members: Ints
    scores: Floats
    tolerance: float

    @classmethod
    def of(cls, asked: Asked, scorer: Scorer, size: int, tolerance: float = 0.0) -> "Shortlists":
        """The model's lists.

        Args:
            asked: Each answer must be known to the filter, as to that of `known_answers`.
            scorer: The model.
            size: The most candidates on a list.
            tolerance: For ties, on the list as in ranks.

        Raises:
            ScoresNotFinite: The scorer returned NaN or infinity.
        """
        pairs, width = len(asked.answers.entities), min(size, 1 + asked.highest)
        counts = np.empty((pairs, 3), dtype=np.int64)
        members, scores = np.empty((pairs, width), dtype=np.int64), np.empty((pairs, width))
        for rows in asked.chunks():
            found = scorer(asked.answers.queries[rows])
            own = asked.pairs(rows)
            counts[own] = asked.count(rows, found, tolerance)
            members[own], scores[own] = _lists(asked, rows, found, width, tolerance)
        row = np.repeat(np.arange(len(asked.answers)), np.diff(asked.answers.offsets))
        on = np.flatnonzero(counts[:, 0] + counts[:, 1] < width)
        return cls(asked, counts, on, asked.answers.queries[row[on]], members[on], scores[on], tolerance)

    @property
    def filled(self) -> NDArray[np.bool_]:
        """Where lists have a member, [i, size]."""
        return self.members >= 0

    def standard(self, scores: Floats) -> Floats:
        """Scores [i, size] standardised within each list; who scores all of a list alike says nothing of it."""
        mean = scores.mean(axis=1, keepdims=True, where=self.filled)
        spread = np.maximum(scores.std(axis=1, keepdims=True, where=self.filled), 1e-9)
        standard: Floats = np.where(self.filled, (scores - mean) / spread, 0.0)
        return standard

    def ranks(self, scores: Floats | None = None) -> Ranks:
        """Where the answers stand once each list is in the order of other scores, [i, size]; without any, as they do.

        Who is on a list stays before all who are not, and an answer that is not on its list stays where it is.
        """
        counts = self.counts.copy()
        if scores is not None:
            own = scores[:, :1]
            margin = self.tolerance * np.abs(scores).max(axis=1, keepdims=True, initial=0.0, where=self.filled)
            above = np.sum(scores > own + margin, axis=1, where=self.filled)
            reached = np.sum(scores >= own - margin, axis=1, where=self.filled)
            counts[self.pairs, 0], counts[self.pairs, 1] = above, reached - above - 1
        return self.asked.ranks(counts)

    def recall(self) -> dict[SideName, float]:
        """Part of the answers, of at least one, that are on their list: no order of the lists gets more to the top."""
        sides = np.repeat(self.asked.answers.queries.side, np.diff(self.asked.answers.offsets))
        on = np.zeros(len(sides))
        on[self.pairs] = 1
        of: dict[SideName, Floats] = {"both": on, "head": on[sides == HEAD], "tail": on[sides == TAIL]}
        return {side: float(each.mean()) for side, each in of.items()}


def _lists(
    asked: Asked, rows: slice, scores: NDArray[np.floating], width: int, tolerance: float
) -> tuple[Ints, Floats]:
    """Members and scores, [pairs, width] each, of the lists of rows of queries from their scores [rows, entities].

    They are right for pairs whose answer is on its list.
    """
    free = scores.copy()
    row, known = asked.known.rows(asked.known_rows[rows])
    free[row, known] = -np.inf
    best = np.argpartition(free, -width, axis=1)[:, -width:]
    values = np.take_along_axis(free, best, axis=1)
    order = np.argsort(values, axis=1, kind="stable")
    best, ascending = np.take_along_axis(best, order, axis=1), np.take_along_axis(values, order, axis=1)
    margins = (tolerance * np.abs(scores).max(axis=1)).astype(scores.dtype)
    lines = zip(ascending, ascending - margins[:, None], strict=True)
    reached = np.stack([width - np.searchsorted(line, lows) for line, lows in lines])
    # The answer comes on top. Whom it does not reach is reached by no more than reach the answer, who is on its list.
    members = np.where(reached < width, best, -1)[:, :0:-1]
    others = np.where(members < 0, 0.0, ascending[:, :0:-1])
    offsets = asked.answers.offsets[rows.start : rows.stop + 1]
    of_pair, answers = np.repeat(np.arange(len(scores)), np.diff(offsets)), asked.answers.entities[asked.pairs(rows)]
    own = scores[of_pair, answers]
    return np.column_stack([answers, members[of_pair]]), np.column_stack([own, others[of_pair]])
