import numpy as np
import pytest
import torch
from scipy import stats

from trainer.answers import Answers
from trainer.negatives import Sampler

ENTITIES = 12
TRIPLES = np.array([[0, 0, 3], [0, 0, 0], [0, 0, 11], [0, 0, 4], [1, 0, 5], [2, 1, 6], *([7, 2, e] for e in range(12))])
ANSWERS = Answers.of(TRIPLES)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def answers_of(row: int) -> set[int]:
    return set(ANSWERS.rows(np.array([row]))[1].tolist())


def test_own_negatives_never_answer_their_query_and_are_all_that_do_not() -> None:
    rows = np.arange(len(ANSWERS))
    drawn = Sampler(ANSWERS, ENTITIES).own(rows, 400, generator())
    assert drawn.shape == (len(rows), 400)
    for row in rows:
        others = set(range(ENTITIES)) - answers_of(row)
        assert set(drawn[row].tolist()) == (others or set(range(ENTITIES)))


def test_a_query_that_everything_answers_still_draws() -> None:
    full = [row for row in range(len(ANSWERS)) if len(answers_of(row)) == ENTITIES]
    assert len(full) == 1
    drawn = Sampler(ANSWERS, ENTITIES).own(np.array(full), 100, generator())
    assert set(drawn[0].tolist()) <= set(range(ENTITIES))


def test_own_negatives_are_uniform() -> None:
    drawn = Sampler(ANSWERS, ENTITIES).own(np.array([0]), 80_000, generator())
    counts = torch.bincount(drawn[0], minlength=ENTITIES).numpy()
    others = sorted(set(range(ENTITIES)) - answers_of(0))
    assert 0 < len(others) < ENTITIES
    assert counts.sum() == counts[others].sum()
    assert stats.chisquare(counts[others]).pvalue > 1e-3


def test_a_pool_is_shared_and_says_which_of_it_are_answers() -> None:
    rows = np.arange(len(ANSWERS))
    pool, known = Sampler(ANSWERS, ENTITIES).shared(rows, 5, generator())
    assert pool.shape == (5,)
    assert len(set(pool.tolist())) == 5
    assert known.tolist() == [[entity in answers_of(row) for entity in pool.tolist()] for row in rows]
    assert 0 < known.sum() < known.numel()


def test_a_pool_is_uniform_and_no_larger_than_the_graph() -> None:
    sampler, random = Sampler(ANSWERS, ENTITIES), generator()
    counts = np.zeros(ENTITIES)
    for _ in range(6_000):
        counts[sampler.shared(np.array([0]), 4, random)[0].numpy()] += 1
    # Draws of one pool exclude each other, so their counts spread less than the test expects, never more.
    assert stats.chisquare(counts).pvalue > 1e-3
    assert sorted(sampler.shared(np.array([0]), 100, random)[0].tolist()) == list(range(ENTITIES))


@pytest.mark.parametrize("kind", ["own", "shared"])
def test_the_generator_decides(kind: str) -> None:
    draw = getattr(Sampler(ANSWERS, 1_000), kind)
    first, again, other = (draw(np.array([0, 1]), 8, generator(seed)) for seed in (3, 3, 4))
    first, again, other = (x if kind == "own" else x[0] for x in (first, again, other))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
