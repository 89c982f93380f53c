"""Filtered, realistic ranks over all candidates, and the metrics made of them.

A triple is ranked twice: its tail among all entities of the client's training graph, and its head. Known answers other
than the one asked for are left out (filtered). Ties share their mean position (the realistic rank of Berrendorf et al.,
2020: the mean of the optimistic and the pessimistic rank).
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from protocol.messages import HEAD, TAIL
from protocol.rounds import Metrics, SideName
from trainer.answers import Answers, Ints, Queries
from trainer.graph import Graph, Triples

Floats = NDArray[np.floating]
Scorer = Callable[[Queries], Floats]
"""Scores of all candidates, [q, entities], of unique queries; higher is more plausible."""

QUERIES_A_CHUNK = 1024


class ScoresNotFinite(Exception):
    """A model scored NaN or infinity; a rank made of it would mean nothing."""


@dataclass(frozen=True)
class Ranks:
    """Ranks of triples, 1 is best, float64 [t] each."""

    tail: Floats
    head: Floats

    def metrics(self) -> dict[SideName, Metrics]:
        """The metrics over both sides and of each side alone."""
        both = np.concatenate([self.tail, self.head])
        return {"both": _metrics(both), "head": _metrics(self.head), "tail": _metrics(self.tail)}


def _metrics(ranks: Floats) -> Metrics:
    hits = {k: float(np.mean(ranks <= k)) for k in (1, 3, 10)}
    return Metrics(mrr=float(np.mean(1 / ranks)), hits_at_1=hits[1], hits_at_3=hits[3], hits_at_10=hits[10])


def known_answers(graph: Graph, split: str) -> Answers:
    """The filter for ranking a split. Test triples are in no filter but that of the test split itself."""
    splits = ("train", "valid", "test") if split == "test" else ("train", "valid")
    return Answers.of(np.concatenate([graph.triples[s] for s in splits]))


def rank(triples: Triples, known: Answers, scorer: Scorer) -> Ranks:
    """Filtered realistic ranks of the triples' tails and heads.

    Raises:
        ScoresNotFinite: The scorer returned NaN or infinity.
    """
    asked = Answers.of(triples)
    ranks = np.empty(len(asked.entities))
    for start in range(0, len(asked), QUERIES_A_CHUNK):
        rows = np.arange(start, min(start + QUERIES_A_CHUNK, len(asked)))
        scores = scorer(asked.queries[rows])
        if not np.isfinite(scores).all():
            raise ScoresNotFinite("the model scored NaN or infinity; lower the learning rate")
        pair_row, answer = asked.rows(rows)
        known_row, known_entity = known.rows(known.find(asked.queries[rows]))
        chunk = _ranks(scores, pair_row, answer, known_row, known_entity)
        ranks[asked.offsets[start] : asked.offsets[rows[-1] + 1]] = chunk
    return _of_triples(triples, asked, ranks)


def _ranks(scores: Floats, row: Ints, answer: Ints, known_row: Ints, known_entity: Ints) -> Floats:
    """Ranks of the (row, answer) pairs: one more than the unknown candidates above, and half of those level."""
    own = scores[row, answer]
    unknown = np.ones(scores.shape, dtype=bool)
    unknown[known_row, known_entity] = False
    unknown[row, answer] = False  # a scored triple need not be in the filter; it must not be its own rival
    rivals = np.where(unknown, scores, -np.inf)[row]
    above = (rivals > own[:, None]).sum(axis=1)
    level = (rivals == own[:, None]).sum(axis=1)
    ranks: Floats = 1.0 + above + level / 2
    return ranks


def _of_triples(triples: Triples, asked: Answers, ranks: Floats) -> Ranks:
    """Put the ranks of unique (query, answer) pairs back into the order of the triples."""
    head, relation, tail = triples.T
    sides = []
    for side, given, answer in ((TAIL, head, tail), (HEAD, tail, head)):
        rows = asked.find(Queries(given, relation, np.full_like(given, side)))
        width = 1 + int(asked.entities.max(initial=0))
        pair_row = np.repeat(np.arange(len(asked)), np.diff(asked.offsets))
        at = np.searchsorted(pair_row * width + asked.entities, rows * width + answer)
        sides.append(ranks[at])
    return Ranks(tail=sides[0], head=sides[1])
