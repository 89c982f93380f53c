import numpy as np
import pytest

from trainer.metrics import Places, Ranks


def places(*rows: tuple[int, int, int]) -> Places:
    """Of (above, level, candidates) rows."""
    return Places(*np.array(rows, dtype=np.int64).T)


def test_metrics_of_given_places() -> None:
    ranks = Ranks(tail=places((0, 0, 20), (2, 1, 30)), head=places((2, 0, 20), (10, 0, 15)))
    assert (ranks.tail.realistic.tolist(), ranks.head.realistic.tolist()) == ([1.0, 3.5], [3.0, 11.0])
    assert len(ranks) == 2
    metrics = ranks.metrics()
    assert metrics["both"].model_dump() == pytest.approx(
        {
            "mrr": (1 + 1 / 3.5 + 1 / 3 + 1 / 11) / 4,
            "hits@1": 0.25,
            "hits@3": 0.5,
            "hits@5": 0.75,
            "hits@10": 0.75,
            "mr": 18.5 / 4,
            "amri": 1 - 2 * 14.5 / 81,
            "mrr_gap": (1 / 3 - 1 / 4) / 4,
        }
    )
    assert metrics["tail"].hits_at_5 == 1.0
    assert metrics["head"].hits_at_1 == 0.0
    assert metrics["head"].mrr_gap == 0.0


def test_the_best_model_and_the_worst_are_at_the_ends_of_amri() -> None:
    best, worst = places((0, 0, 9), (0, 0, 4)).metrics(), places((8, 0, 9), (3, 0, 4)).metrics()
    assert (best.amri, best.mrr, best.mr, best.mrr_gap) == (1.0, 1.0, 1.0, 0.0)
    assert (worst.amri, worst.mr) == (-1.0, 6.5)


def test_a_model_that_scores_all_alike_is_chance() -> None:
    metrics = places((0, 8, 9), (0, 3, 4)).metrics()
    assert metrics.amri == 0.0
    assert metrics.mrr == pytest.approx((1 / 5 + 1 / 2.5) / 2)
    assert metrics.mrr_gap == pytest.approx(1 - (1 / 9 + 1 / 4) / 2)
    assert metrics.hits_at_1 == 0.0


def test_one_candidate_is_found_and_says_nothing() -> None:
    metrics = places((0, 0, 1), (0, 0, 1)).metrics()
    assert (metrics.mrr, metrics.mr, metrics.amri, metrics.mrr_gap) == (1.0, 1.0, 0.0, 0.0)
    assert places((0, 0, 1), (0, 0, 3)).metrics().amri == 1.0
