import numpy as np
import pytest

from benchmarks.ngrams import KneserNey

SYMBOLS = 7


@pytest.fixture(scope="module")
def documents() -> list[list[int]]:
    random = np.random.default_rng(0)
    return [(np.cumsum(random.integers(0, 3, random.integers(1, 30))) % SYMBOLS).tolist() for _ in range(200)]


@pytest.mark.parametrize("before", [[], [0], [1, 2], [3, 3, 3, 4], [6, 5, 4, 3, 2, 1]])
def test_what_may_follow_sums_to_one(documents: list[list[int]], before: list[int]) -> None:
    model = KneserNey(documents, SYMBOLS)
    assert sum(2 ** model.log2([[*before, symbol]])[-1] for symbol in range(SYMBOLS)) == pytest.approx(1)


def test_bigrams_are_those_of_the_formula() -> None:
    """Kneser-Ney by hand. Of "aab" and "ab", with a = 0, b = 1: after a come a (1), b (2); after the start, a (2)."""
    model = KneserNey([[0, 0, 1], [0, 1]], 2, order=2)
    highest, lower = model._orders[1].discounts, model._orders[0].discounts
    # Below the highest order a symbol counts for those before it: a after the start and after a, b after a.
    alone = {0: (2 - lower[2] + (lower[2] + lower[1]) / 2) / 3, 1: (1 - lower[1] + (lower[2] + lower[1]) / 2) / 3}
    spared = highest[1] + highest[2]
    wanted = {0: (1 - highest[1] + spared * alone[0]) / 3, 1: (2 - highest[2] + spared * alone[1]) / 3}
    for symbol, chance in wanted.items():
        assert 2 ** model.log2([[0, symbol]])[-1] == pytest.approx(chance)
    assert sum(wanted.values()) == pytest.approx(1)


def test_more_context_needs_fewer_bits(documents: list[list[int]]) -> None:
    bits = [-KneserNey(documents[:150], SYMBOLS, order).log2(documents[150:]).mean() for order in (1, 2)]
    assert bits[1] < bits[0] <= np.log2(SYMBOLS) + 0.1
    # Three of seven symbols may follow, each as likely.
    assert bits[1] == pytest.approx(np.log2(3), abs=0.1)
