"""The loops that training spends its time in, compiled by numba: distances of queries to rows, and their gradients.

Written out, a distance of b queries to m rows each is a [b, m, dim] tensor three times over, which does not fit any
cache; here it is read row by row and never stored. `trainer.comparisons` makes torch functions of these.

Each loop takes the rows that it works on, `start` to `end`, so that threads can share the work.
"""

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

from trainer.loops import compiled, inlined

DOT, L1, MODULUS = 0, 1, 2
"""Dot product; sum of |q - c|; sum of |q - c| over complex numbers, whose real parts fill the first half of a row."""

ROWS_AT_ONCE = 64
"""Candidates that all queries meet before the next ones are read: so many rows fit the innermost cache."""

TINY = np.float32(1e-12)
"""Under the square root, whose gradient is infinite at 0, which an exact match would reach."""


@inlined
def _between(kind: int, query: Any, i: int, rows: Any, j: int) -> Any:
    """The product or distance of query i and row j."""
    total = query.dtype.type(0)
    if kind == DOT:
        for d in range(query.shape[1]):
            total += query[i, d] * rows[j, d]
    elif kind == L1:
        for d in range(query.shape[1]):
            total += abs(query[i, d] - rows[j, d])
    else:
        half = query.shape[1] // 2
        for d in range(half):
            real, imaginary = query[i, d] - rows[j, d], query[i, d + half] - rows[j, d + half]
            total += np.sqrt(real * real + imaginary * imaginary + query.dtype.type(TINY))
    return total


@inlined
def _add_gradient(
    kind: int, query: Any, i: int, rows: Any, j: int, weight: Any, grad_query: Any, grad_rows: Any, slope: Any
) -> None:
    """Add weight times the gradient of `_between` to row i of grad_query and row j of grad_rows.

    slope [dim / 2] is room for the slopes of moduli.
    """
    if kind == DOT:
        _add_dot(query, i, rows, j, weight, grad_query, grad_rows)
    elif kind == L1:
        _add_l1(query, i, rows, j, weight, grad_query, grad_rows)
    else:
        _add_modulus(query, i, rows, j, weight, grad_query, grad_rows, slope)


@inlined
def _add_dot(query: Any, i: int, rows: Any, j: int, weight: Any, grad_query: Any, grad_rows: Any) -> None:
    for d in range(query.shape[1]):
        grad_query[i, d] += weight * rows[j, d]
        grad_rows[j, d] += weight * query[i, d]


@inlined
def _add_l1(query: Any, i: int, rows: Any, j: int, weight: Any, grad_query: Any, grad_rows: Any) -> None:
    for d in range(query.shape[1]):
        difference = query[i, d] - rows[j, d]
        # Chosen, not multiplied by a sign: half the instructions.
        step = weight if difference > 0 else -weight if difference < 0 else query.dtype.type(0)
        grad_query[i, d] += step
        grad_rows[j, d] -= step


@inlined
def _add_modulus(
    query: Any, i: int, rows: Any, j: int, weight: Any, grad_query: Any, grad_rows: Any, slope: Any
) -> None:
    half = query.shape[1] // 2
    # Three loops: as one, they would not be compiled to vector instructions.
    for d in range(half):
        real, imaginary = query[i, d] - rows[j, d], query[i, d + half] - rows[j, d + half]
        slope[d] = weight / np.sqrt(real * real + imaginary * imaginary + query.dtype.type(TINY))
    for d in range(half):
        step = slope[d] * (query[i, d] - rows[j, d])
        grad_query[i, d] += step
        grad_rows[j, d] -= step
    for d in range(half):
        step = slope[d] * (query[i, d + half] - rows[j, d + half])
        grad_query[i, d + half] += step
        grad_rows[j, d + half] -= step


Loop = Callable[..., None]


@cache
def pairs(kind: int) -> Loop:
    """A loop that fills out [q, n]: every query [q, dim] with every row [n, dim]; the rows from start to end.

    The kind is known when it is compiled: asked in the innermost loop, it would double the time.
    """

    @compiled
    def loop(query: Any, rows: Any, out: Any, start: int, end: int) -> None:
        for block in range(start, end, ROWS_AT_ONCE):
            for i in range(len(query)):
                for j in range(block, min(block + ROWS_AT_ONCE, end)):
                    out[i, j] = _between(kind, query, i, rows, j)

    return loop


@cache
def pairs_gradient(kind: int) -> Loop:
    """A loop that adds to grad_query [q, dim] and grad_rows [n, dim] for grad [q, n] = d(loss)/d(out)."""

    @compiled
    def loop(query: Any, rows: Any, grad: Any, grad_query: Any, grad_rows: Any, start: int, end: int) -> None:
        slope = np.empty(query.shape[1] // 2, dtype=query.dtype)
        for block in range(start, end, ROWS_AT_ONCE):
            for i in range(len(query)):
                for j in range(block, min(block + ROWS_AT_ONCE, end)):
                    _add_gradient(kind, query, i, rows, j, grad[i, j], grad_query, grad_rows, slope)

    return loop


@compiled
def by_row(index: Any, rows: int) -> tuple[Any, Any]:
    """The places of index [q, m] in the order of the row that they name: int64 places [q * m], bounds [rows + 1].

    Read in that order, each row comes from memory once; the queries, which are few, stay in the cache.
    """
    bounds = np.zeros(rows + 1, dtype=np.int64)
    for row in index.flat:
        bounds[row + 1] += 1
    for row in range(rows):
        bounds[row + 1] += bounds[row]
    filled, places = bounds[:-1].copy(), np.empty(index.size, dtype=np.int64)
    for place, row in enumerate(index.flat):
        places[filled[row]] = place
        filled[row] += 1
    return places, bounds


@cache
def chosen(kind: int) -> Loop:
    """A loop that fills out [q, m]: every query [q, dim] with its own of rows [n, dim].

    Places and bounds are those of `by_row`; start and end are rows.
    """

    @compiled
    def loop(query: Any, rows: Any, places: Any, bounds: Any, out: Any, start: int, end: int) -> None:
        flat, width = out.reshape(-1), out.shape[1]
        for j in range(start, end):
            for at in range(bounds[j], bounds[j + 1]):
                flat[places[at]] = _between(kind, query, places[at] // width, rows, j)

    return loop


@cache
def chosen_gradient(kind: int) -> Loop:
    """A loop that adds to grad_query [q, dim] and grad_rows [n, dim] for grad [q, m] = d(loss)/d(out)."""

    @compiled
    def loop(
        query: Any,
        rows: Any,
        places: Any,
        bounds: Any,
        grad: Any,
        grad_query: Any,
        grad_rows: Any,
        start: int,
        end: int,
    ) -> None:
        slope = np.empty(query.shape[1] // 2, dtype=query.dtype)
        flat, width = grad.reshape(-1), grad.shape[1]
        for j in range(start, end):
            for at in range(bounds[j], bounds[j + 1]):
                i = places[at] // width
                _add_gradient(kind, query, i, rows, j, flat[places[at]], grad_query, grad_rows, slope)

    return loop
