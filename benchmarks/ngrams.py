"""An n-gram model: interpolated modified Kneser-Ney smoothing, over whatever documents are cut into.

Chen and Goodman, An empirical study of smoothing techniques for language modeling, 1999, section 3.

What a document begins with is a symbol like others, and counts so: grams that hold it occur after nothing else.

A gram is numbered by its place among the sorted grams of its length, or -1 where it was never seen. Shapes: N symbols.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Documents = Sequence[Sequence[int]]


@dataclass(frozen=True)
class Order:
    """What is known of the grams of one length, and of their contexts, which are shorter by the last symbol.

    Attributes:
        counts: Of each gram, how often it occurs; below the highest order, after how many symbols.
        discounts: Subtracted from counts 0, 1, 2, and 3 or more.
        totals: Of each context, the sum of its grams' counts.
        spared: Of each context, the sum of what its grams' counts are discounted by.
    """

    counts: Ints
    discounts: Floats
    totals: Ints
    spared: Floats


class KneserNey:
    """Probabilities of symbols, given up to `order` - 1 before them in their document.

    Args:
        documents: Symbols of each, 0 to `symbols` - 1.
        symbols: How many there are.
        order: Length of the longest grams.
    """

    def __init__(self, documents: Documents, symbols: int, order: int = 5) -> None:
        self._symbols, self._order = symbols, order
        stream, real = self._laid_out(documents)
        self._keys: list[Ints] = []
        grams = self._numbered(stream, learn=True)
        self._orders = []
        for length in range(1, order + 1):
            gram, context = grams[length][real], grams[length - 1][real - 1]
            if length < order:
                # A gram counts once for each symbol before it, however often the two occur together.
                once = np.unique(grams[length + 1][real], return_index=True)[1]
                counts = np.bincount(gram[once], minlength=len(self._keys[length - 1]))
            else:
                counts = np.bincount(gram, minlength=len(self._keys[length - 1]))
            kinds, first = np.unique(gram, return_index=True)
            contexts = 1 if length == 1 else len(self._keys[length - 2])
            self._orders.append(_order(counts, kinds, context[first], contexts))

    def log2(self, documents: Documents) -> Floats:
        """log2 of the probability of each symbol of all documents, one after the other, [N]."""
        stream, real = self._laid_out(documents)
        grams = self._numbered(stream, learn=False)
        chances = np.full(len(real), 1 / self._symbols)
        for length, order in enumerate(self._orders, 1):
            gram, context = grams[length][real], grams[length - 1][real - 1]
            totals = np.where(context < 0, 0, order.totals[context])
            counts = np.where(gram < 0, 0, order.counts[gram])
            share = counts - order.discounts[np.minimum(counts, 3)] + order.spared[context] * chances
            chances = np.where(totals > 0, share / np.maximum(totals, 1), chances)
        logs: Floats = np.log2(chances)
        return logs

    def _laid_out(self, documents: Documents) -> tuple[Ints, Ints]:
        """All documents, each after a full context of a symbol that no document has; and where theirs stand."""
        before = [self._symbols] * (self._order - 1)
        stream = np.concatenate([np.array([*before, *document], dtype=np.int64) for document in documents])
        return stream, np.flatnonzero(stream != self._symbols)

    def _numbered(self, stream: Ints, *, learn: bool) -> list[Ints]:
        """For each length from 0 on, the number of the gram that ends at each place of the stream."""
        found = [np.zeros(len(stream), dtype=np.int64)]
        for length in range(1, self._order + 1):
            shorter = found[-1]
            firsts = np.concatenate([np.full(length - 1, self._symbols), stream[: len(stream) - length + 1]])
            # A gram's key: its first symbol, then the gram without it.
            keys = np.where(shorter < 0, -1, firsts * (1 if length == 1 else len(self._keys[length - 2])) + shorter)
            if learn:
                self._keys.append(np.unique(keys))
            known = self._keys[length - 1]
            places = np.minimum(np.searchsorted(known, keys), len(known) - 1)
            found.append(np.where(known[places] == keys, places, -1))
        return found


def _order(counts: Ints, kinds: Ints, contexts: Ints, size: int) -> Order:
    """The order of grams of these counts; of the `kinds` that are told of, the contexts, numbered below `size`."""
    of = [int((counts[kinds] == count).sum()) for count in range(1, 5)]
    rate = of[0] / max(1, of[0] + 2 * of[1])
    # Small samples may lack a count: a discount must leave something, and take something.
    estimates = [n - (n + 1) * rate * of[n] / max(1, of[n - 1]) for n in (1, 2, 3)]
    discounts = np.array([0.0, *(min(max(d, 0.05 * n), 0.95 * n) for n, d in enumerate(estimates, 1))])
    totals = np.bincount(contexts, weights=counts[kinds], minlength=size).astype(np.int64)
    spared: Floats = np.bincount(contexts, discounts[np.minimum(counts[kinds], 3)], size).astype(np.float64)
    return Order(counts, discounts, totals, spared)
