"""`/rank` over HTTP: the scores are those of `/score`, their order and ranks are counted here."""

from typing import Any

import numpy as np
import pytest

from .conftest import Known
from .requests import TEXT_ONLY, rank_call, score_call, sent, spoken

CANDIDATES = [1, 2, 0, 1, 3, 1]
"""One of them three times."""


def ranks(scores: list[float]) -> list[float]:
    """Realistic ranks: how many are better, and half of the others that are as good."""
    return [1 + sum(b > a for b in scores) + (sum(b == a for b in scores) - 1) / 2 for a in scores]


def scored(known: Known, side: int, candidates: list[int], **given: Any) -> list[float]:
    rows = [[0, 1, c] if side == 0 else [c, 1, 0] for c in candidates]
    scores: list[float] = spoken(known, score_call(known.hidden, triples=np.array(rows, dtype="i4"), **given))["scores"]
    return scores


@pytest.mark.parametrize(
    ("side", "readout", "template"),
    [(0, "verdict", "triple"), (1, "verdict", "triple_head"), (0, "number", "number"), (1, "number", "number_head")],
)
def test_candidates_stand_in_the_order_of_their_scores_with_realistic_ranks(
    known: Known, side: int, readout: str, template: str
) -> None:
    told = spoken(known, rank_call(known.hidden, side, CANDIDATES, readout=readout))
    scores = scored(known, side, CANDIDATES, readout=readout, template=template)
    expected = ranks(scores)
    assert told["template"] == template
    assert sorted(result["index"] for result in told["results"]) == list(range(len(CANDIDATES)))
    assert [r["rank"] for r in told["results"]] == sorted(expected)
    for result in told["results"]:
        assert result["score"] == pytest.approx(scores[result["index"]], abs=1e-5)
        assert result["rank"] == expected[result["index"]]
    same = [result for result in told["results"] if CANDIDATES[result["index"]] == 1]
    assert [result["index"] for result in same] == [0, 3, 5]  # of equal ones, the earlier
    assert len({result["rank"] for result in same}) == 1


def test_both_forms_rank_alike(known: Known) -> None:
    for side in (0, 1):
        told = spoken(known, rank_call(known.hidden, side, CANDIDATES))
        arrays, message = sent(known, rank_call(known.hidden, side, CANDIDATES))
        assert arrays["indices"].tolist() == [result["index"] for result in told["results"]]
        assert arrays["scores"].tolist() == [result["score"] for result in told["results"]]
        assert arrays["ranks"].tolist() == [result["rank"] for result in told["results"]]
        assert message == {name: told[name] for name in message}


def test_a_tensor_query_without_a_side_asks_for_tails(known: Known) -> None:
    call = rank_call(known.hidden, 0)
    without = type(call)("/rank", known.hidden, {n: a for n, a in call.arrays.items() if n != "sides"}, call.said)
    assert sent(known, without)[0]["scores"].tolist() == sent(known, call)[0]["scores"].tolist()


@pytest.mark.parametrize("top_k", [1, 2, 6, 100])
def test_only_the_best_come_back_and_keep_their_ranks_among_all(known: Known, top_k: int) -> None:
    every = spoken(known, rank_call(known.hidden, 0, CANDIDATES))
    best = spoken(known, rank_call(known.hidden, 0, CANDIDATES, top_k=top_k))
    assert best["results"] == every["results"][:top_k]
    assert best["usage"]["prompts"] == len(CANDIDATES)
    assert len(sent(known, rank_call(known.hidden, 0, CANDIDATES, top_k=top_k))[0]["ranks"]) == min(top_k, 6)


@pytest.mark.parametrize("readout", ["verdict", "likelihood", "number"])
@pytest.mark.parametrize("side", [0, 1])
def test_a_query_in_words_is_the_one_of_indices(known: Known, side: int, readout: str) -> None:
    names = ["gout", "an ache", "a cold", "gout"]
    said = {"relation": "treats", ("head" if side == 0 else "tail"): "aspirin", "candidates": names}
    words = known.post("/rank", json=said | {"readout": readout}).json()
    body = {
        "entities": [{"name": name} for name in ("a cold", "an ache", "aspirin", "gout")],
        "relations": [{"name": "treats"}],
        "query": [2, 0],
        "side": side,
        "candidates": [3, 1, 0, 3],
        "readout": readout,
    }
    indices = known.post("/rank", json=body).json()
    for one, other in zip(words.pop("results"), indices.pop("results"), strict=True):
        assert one["score"] == pytest.approx(other.pop("score"), abs=1e-5)
        assert {"index": one["index"], "rank": one["rank"]} == other
    words.pop("usage"), indices.pop("usage")
    assert words == indices


def test_candidates_that_likelihood_ranks_have_names(known: Known) -> None:
    told = spoken(known, rank_call(known.hidden, 0, [TEXT_ONLY, TEXT_ONLY], readout="likelihood"))
    assert [result["rank"] for result in told["results"]] == [1.5, 1.5]
    assert told["template"] == "tail"


def test_one_template_may_serve_both_sides(known: Known) -> None:
    for side in (0, 1):
        told = spoken(known, rank_call(known.hidden, side, [1, 2], template="short"))
        scores = scored(known, side, [1, 2], template="short")
        found = {result["index"]: result["score"] for result in told["results"]}
        assert [found[0], found[1]] == pytest.approx(scores, abs=1e-5)
