"""Candidates in order of their scores."""

from dataclasses import dataclass

import numpy as np

from protocol.messages import Usage
from services.scorer.requests import Floats, Ints
from services.scorer.results import Scores


@dataclass(frozen=True)
class Ranked:
    """The best candidates, best first.

    Attributes:
        indices: int64 [r], which candidates these are.
        scores: [r].
        ranks: float64 [r], realistic ranks among all candidates, from 1.
        reasons: Why a candidate has no score and is not among them, by its place.
    """

    indices: Ints
    scores: Floats
    ranks: Floats
    reasons: dict[int, str]
    usage: Usage


def rank(found: Scores, top_k: int | None) -> Ranked:
    """The best `top_k` of the scored candidates; of equal ones, the earlier.

    Ties follow the realistic rule: equal scores share the mean of their optimistic and pessimistic rank (Berrendorf et
    al., "On the Ambiguity of Rank-Based Evaluation", 2020).
    """
    scored = np.flatnonzero(~np.isnan(found.scores))
    scores = found.scores[scored]
    ascending = np.sort(scores)
    better = len(scores) - np.searchsorted(ascending, scores, side="right")
    as_good = len(scores) - np.searchsorted(ascending, scores, side="left")
    best = np.lexsort([scored, -scores])[:top_k]
    return Ranked(scored[best], scores[best], ((better + 1 + as_good) / 2)[best], found.reasons, found.usage)
