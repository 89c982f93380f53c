import math
from collections import Counter

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


MANY = 300
"""So many symbols, of which most are rare, that each length has grams that occur once, twice, three and four times."""


def rare(count: int, seed: int) -> list[list[int]]:
    random, shares = np.random.default_rng(seed), 1 / np.arange(1, MANY + 1)
    return [random.choice(MANY, 20, p=shares / shares.sum()).tolist() for _ in range(count)]


def reference(train: list[list[int]], document: list[int], order: int) -> list[float]:
    """log2 of the probability of each symbol, by the definitions, with a Counter for each length."""
    padded = [[MANY] * (order - 1) + one for one in train]
    counts = {order: Counter(tuple(one[i - order + 1 : i + 1]) for one in padded for i in range(order - 1, len(one)))}
    for length in range(order - 1, 0, -1):
        # How many symbols stand before each gram.
        counts[length] = Counter(gram[1:] for gram in counts[length + 1])

    def discounts(length: int) -> list[float]:
        n = Counter(counts[length].values())
        rate = n[1] / (n[1] + 2 * n[2])
        return [0.0, *(k - (k + 1) * rate * n[k + 1] / n[k] for k in (1, 2, 3))]

    def chance(context: tuple[int, ...], symbol: int) -> float:
        length = len(context) + 1
        lower = chance(context[1:], symbol) if context else 1 / MANY
        after = {gram[-1]: count for gram, count in counts[length].items() if gram[:-1] == context}
        if not after:
            return lower
        taken = discounts(length)
        count, spared = after.get(symbol, 0), sum(taken[min(count, 3)] for count in after.values())
        return (count - taken[min(count, 3)] + spared * lower) / sum(after.values())

    whole = [MANY] * (order - 1) + document
    places = range(order - 1, len(whole))
    return [math.log2(chance(tuple(whole[place - order + 1 : place]), whole[place])) for place in places]


@pytest.mark.parametrize("order", [2, 3])
def test_probabilities_are_those_of_the_definitions(order: int) -> None:
    train = rare(200, seed=1)
    for document in rare(3, seed=2):
        assert KneserNey(train, MANY, order).log2([document]) == pytest.approx(reference(train, document, order))


def test_more_context_needs_fewer_bits(documents: list[list[int]]) -> None:
    bits = [-KneserNey(documents[:150], SYMBOLS, order).log2(documents[150:]).mean() for order in (1, 2)]
    assert bits[1] < bits[0] <= np.log2(SYMBOLS) + 0.1
    # Three of seven symbols may follow, each as likely.
    assert bits[1] == pytest.approx(np.log2(3), abs=0.1)
