from collections import defaultdict

import numpy as np
import pytest

from protocol.messages import HEAD, TAIL
from trainer.answers import Answers
from trainer.graph import DataError, Graph

from .support import queries, random_graph

Known = dict[tuple[int, int, int], set[int]]


def brute_force(graph: Graph) -> Known:
    known: Known = defaultdict(set)
    for h, r, t in graph.train.tolist():
        known[h, r, TAIL].add(t)
        known[t, r, HEAD].add(h)
    return known


def as_dict(answers: Answers) -> dict[tuple[int, int, int], list[int]]:
    columns = (answers.queries.given, answers.queries.relation, answers.queries.side)
    ends = zip(answers.offsets, answers.offsets[1:], strict=False)
    found = zip(zip(*(c.tolist() for c in columns), strict=True), ends, strict=True)
    return {query: answers.entities[start:end].tolist() for query, (start, end) in found}


@pytest.mark.parametrize("seed", range(4))
def test_answers_are_those_of_a_dictionary(seed: int) -> None:
    graph = random_graph(seed)
    answers = Answers.of(graph.train)
    expected = brute_force(graph)
    assert as_dict(answers) == {query: sorted(found) for query, found in expected.items()}
    assert len(answers) == len(expected)


def test_a_triple_that_occurs_twice_answers_once() -> None:
    answers = Answers.of(np.array([[0, 0, 1], [0, 0, 1]]))
    assert as_dict(answers) == {(0, 0, TAIL): [1], (1, 0, HEAD): [0]}


@pytest.mark.parametrize("seed", range(4))
def test_every_query_is_found_and_strange_ones_are_not(seed: int) -> None:
    graph = random_graph(seed)
    answers, known = Answers.of(graph.train), brute_force(graph)
    every = [(g, r, s) for g in range(len(graph.entities) + 3) for r in range(5) for s in (TAIL, HEAD)]
    asked = queries(*every)
    found = answers.find(asked)
    assert [row >= 0 for row in found] == [query in known for query in every]
    position, entities = answers.rows(found)
    for i, query in enumerate(every):
        assert entities[position == i].tolist() == sorted(known.get(query, ()))


def test_rows_follow_the_order_that_is_asked_for() -> None:
    answers = Answers.of(np.array([[0, 0, 1], [0, 0, 2], [3, 0, 1]]))
    wanted = answers.find(queries((3, 0, TAIL), (9, 0, TAIL), (0, 0, TAIL), (3, 0, TAIL)))
    position, entities = answers.rows(wanted)
    assert position.tolist() == [0, 2, 2, 3]
    assert entities.tolist() == [1, 1, 2, 1]


def test_no_triples_answer_nothing() -> None:
    answers = Answers.of(np.empty((0, 3), dtype=np.int64))
    assert len(answers) == 0
    found = answers.find(queries((0, 0, TAIL), (1, 0, HEAD)))
    assert found.tolist() == [-1, -1]
    assert [len(column) for column in answers.rows(found)] == [0, 0]


def test_numbers_that_one_column_cannot_hold_are_refused() -> None:
    huge = np.array([[0, 20_000, 1 << 23]])
    assert as_dict(Answers.of(huge)) == {(0, 20_000, TAIL): [1 << 23], (1 << 23, 20_000, HEAD): [0]}
    with pytest.raises(DataError, match="too many"):
        Answers.of(huge * 4)


def test_queries_can_be_sliced() -> None:
    asked = queries((5, 1, TAIL), (6, 2, HEAD), (7, 3, TAIL))
    assert asked[1:].given.tolist() == [6, 7]
    assert asked[np.array([2, 0])].relation.tolist() == [3, 1]
    assert len(asked[:1]) == 1
