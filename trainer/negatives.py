"""Negative sampling: entities that do not answer a query, drawn for each positive or shared by a chunk of the batch."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from trainer.answers import Answers, Ints
from trainer.loops import compiled


class Sampler:
    """Draws negatives for queries of a training graph; true answers are filtered out.

    Args:
        answers: The queries with all of their true entities.
        entities: How many there are to draw from.
    """

    def __init__(self, answers: Answers, entities: int) -> None:
        self.answers, self.entities = answers, entities

    def own(self, rows: Ints, count: int, generator: torch.Generator) -> Tensor:
        """Entities that do not answer the queries at `rows`, int64 [q, count], uniform, with replacement.

        Exact, without drawing again: the n-th entity that is no answer is found among the query's sorted answers. Where
        everything answers the query there is nothing else to draw, so true answers remain.
        """
        draws = torch.rand(len(rows), count, generator=generator, dtype=torch.float64).numpy()
        negatives = np.empty(draws.shape, dtype=np.int64)
        _others(draws, rows, self.answers.offsets, self.answers.entities, self.entities, negatives)
        return torch.from_numpy(negatives)

    def shared(self, rows: Ints, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Entities that all the queries at `rows` share as negatives, and which of them answer which query.

        Returns:
            int64 [min(count, entities)], uniform without replacement, and bool [q, that many]: True where the entity is
            no negative of the query.
        """
        pool = torch.randperm(self.entities, generator=generator)[:count]
        place = np.full(self.entities, -1, dtype=np.int64)
        place[pool.numpy()] = np.arange(len(pool))
        query, answer = self.answers.rows(rows)
        drawn = place[answer]
        known = torch.zeros(len(rows), len(pool), dtype=torch.bool)
        known[query[drawn >= 0], drawn[drawn >= 0]] = True
        return pool, known


@compiled
def _others(draws: Any, rows: Any, offsets: Any, answers: Any, entities: int, out: Any) -> None:
    """Turn draws in [0, 1) into entities that are not among the ascending answers of each row."""
    for i in range(len(rows)):
        start, end = offsets[rows[i]], offsets[rows[i] + 1]
        free = entities - (end - start)
        for j in range(draws.shape[1]):
            if free == 0:
                out[i, j] = int(draws[i, j] * entities)
                continue
            nth = int(draws[i, j] * free)
            low, high = start, end
            while low < high:  # how many answers stand before the nth entity that is none
                middle = (low + high) // 2
                if answers[middle] - (middle - start) <= nth:
                    low = middle + 1
                else:
                    high = middle
            out[i, j] = nth + low - start
