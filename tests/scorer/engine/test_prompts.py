import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from services.scorer.engine.prompts import Prompts, Rows, spans


def rows_of(lists: list[list[int]]) -> Rows:
    lengths = np.array([len(part) for part in lists], dtype=np.int64)
    flat = np.array([row for part in lists for row in part], dtype=np.int64)
    return Rows(flat, np.cumsum(lengths) - lengths, lengths)


def test_spans() -> None:
    assert spans(np.array([5, 0, 9]), np.array([2, 0, 3])).tolist() == [5, 6, 9, 10, 11]
    assert spans(np.array([], dtype=int), np.array([], dtype=int)).tolist() == []


LISTS = st.lists(st.lists(st.integers(0, 20), min_size=1, max_size=6), min_size=1, max_size=5)


@given(first=LISTS, second=LISTS, count=st.integers(1, 12), tokens=st.integers(1, 60), seed=st.integers(0, 99))
def test_pieces_hold_every_prompt_once(
    first: list[list[int]], second: list[list[int]], count: int, tokens: int, seed: int
) -> None:
    random = np.random.default_rng(seed)
    picks = [random.integers(0, len(lists), count) for lists in (first, second)]
    prompts = Prompts([(rows_of(first), picks[0]), (rows_of(second), picks[1])], count)
    found = {}
    for piece in prompts.pieces(tokens):
        assert piece.index.size <= tokens or len(piece.numbers) == 1
        pairs = set(zip(piece.rows.tolist(), piece.positions.tolist(), strict=True))
        assert len(pairs) == len(piece.rows)
        for number, index, end in zip(piece.numbers.tolist(), piece.index, piece.ends, strict=True):
            assert piece.positions[index[: end + 1]].tolist() == list(range(end + 1))
            found[number] = piece.rows[index[: end + 1]].tolist()
    assert found == {n: first[picks[0][n]] + second[picks[1][n]] for n in range(count)}
