import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from protocol.tensors import Array, encode
from services.coordinator.aggregation import ClientUpdate, aggregate

RNG = np.random.default_rng(0)


def update(rows: list[int], triples: int, dim: int = 3) -> ClientUpdate:
    tensors = {
        "entities": RNG.normal(size=(len(rows), dim)).astype(np.float32),
        "dense.w": RNG.normal(size=(2, 2)).astype(np.float32),
    }
    return ClientUpdate(np.array(rows, np.int64), triples, tensors)


def model(entities: int, dim: int = 3) -> dict[str, Array]:
    rows = RNG.normal(size=(entities, dim)).astype(np.float32)
    return {"entities": rows, "dense.w": np.zeros((2, 2), np.float32)}


def test_a_row_is_the_mean_of_those_who_reported_it() -> None:
    previous, one, two = model(4), update([2, 0], 10), update([0, 1], 30)
    result = aggregate(previous, [one, two])
    rows = result["entities"]
    both = (one.tensors["entities"][1].astype(np.float64) + two.tensors["entities"][0]) / 2
    assert np.array_equal(rows[0], both.astype(np.float32))
    assert np.array_equal(rows[1], two.tensors["entities"][1])
    assert np.array_equal(rows[2], one.tensors["entities"][0])
    assert rows[3].tobytes() == previous["entities"][3].tobytes()
    dense = 0.25 * one.tensors["dense.w"].astype(np.float64) + 0.75 * two.tensors["dense.w"]
    assert np.allclose(result["dense.w"], dense, rtol=1e-6)
    assert {tensor.dtype for tensor in result.values()} == {np.dtype(np.float32)}


def test_what_it_was_given_is_not_changed() -> None:
    previous = model(2)
    before = encode(previous)
    aggregate(previous, [update([0, 1], 1)])
    assert encode(previous) == before


def test_again_gives_the_same_bytes() -> None:
    previous, updates = model(50), [update(list(RNG.permutation(50)[:30]), i + 1) for i in range(5)]
    assert encode(aggregate(previous, updates)) == encode(aggregate(previous, iter(updates)))


@given(st.lists(st.sets(st.integers(0, 9), min_size=1), min_size=1, max_size=4))
def test_unreported_rows_are_kept_and_the_others_stay_in_range(reports: list[set[int]]) -> None:
    previous, updates = model(10), [update(sorted(rows), 1) for rows in reports]
    rows = aggregate(previous, updates)["entities"]
    for row in range(10):
        values = [u.tensors["entities"][list(u.rows).index(row)] for u in updates if row in u.rows]
        low, high = (np.min(values, 0), np.max(values, 0)) if values else (previous["entities"][row],) * 2
        assert (low <= rows[row]).all()
        assert (rows[row] <= high).all()
