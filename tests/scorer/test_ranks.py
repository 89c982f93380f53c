import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.messages import Usage
from services.scorer.ranks import Ranked, rank
from services.scorer.results import Scores

USAGE = Usage(prompts=1, tokens=1, shared_tokens=0)


def ranked(scores: list[float], top_k: int | None = None, reasons: dict[int, str] | None = None) -> Ranked:
    return rank(Scores(np.array(scores), USAGE, reasons=reasons or {}), top_k)


def test_equal_scores_share_the_mean_of_their_places_and_the_earlier_stands_first() -> None:
    found = ranked([1.0, 3.0, 1.0, 2.0, 1.0])
    assert found.indices.tolist() == [1, 3, 0, 2, 4]
    assert found.scores.tolist() == [3, 2, 1, 1, 1]
    assert found.ranks.tolist() == [1, 2, 4, 4, 4]


def test_what_has_no_score_is_left_out_and_costs_nobody_a_place() -> None:
    found = ranked([np.nan, 1.0, np.nan, 2.0], reasons={0: "no number", 2: "refused"})
    assert found.indices.tolist() == [3, 1]
    assert found.ranks.tolist() == [1, 2]
    assert found.reasons == {0: "no number", 2: "refused"}
    assert ranked([np.nan]).indices.tolist() == []


@pytest.mark.parametrize("top_k", [1, 2, 3, 9])
def test_the_best_keep_their_ranks_among_all(top_k: int) -> None:
    whole, best = ranked([5.0, 5.0, 7.0]), ranked([5.0, 5.0, 7.0], top_k)
    assert best.indices.tolist() == whole.indices.tolist()[:top_k] == [2, 0, 1][:top_k]
    assert best.ranks.tolist() == whole.ranks.tolist()[:top_k] == [1, 2.5, 2.5][:top_k]


@given(st.lists(st.sampled_from([-1.5, -0.0, 0.0, 0.5, float("nan")]), min_size=1, max_size=12))
def test_a_rank_is_one_more_than_what_is_better_and_half_of_what_is_as_good(scores: list[float]) -> None:
    found = ranked(scores)
    kept = [score for score in scores if score == score]
    assert sorted(found.indices.tolist()) == [place for place, score in enumerate(scores) if score == score]
    assert found.scores.tolist() == sorted(kept, reverse=True)
    for place, place_rank in zip(found.indices.tolist(), found.ranks.tolist(), strict=True):
        better = sum(other > scores[place] for other in kept)
        equal = sum(other == scores[place] for other in kept)
        assert place_rank == better + (equal + 1) / 2
