import numpy as np
import pytest

from protocol.messages import HEAD, TAIL
from trainer.answers import Queries
from trainer.graph import Graph
from trainer.metrics import Ranks
from trainer.ranking import Asked, Floats, Scorer, known_answers, rank
from trainer.shortlists import Shortlists

from .support import random_graph

Table = np.ndarray


def table(graph: Graph, seed: int, levels: int | None) -> Table:
    """Scores [side, relation, given, candidate]; few levels make many ties."""
    generator = np.random.default_rng(seed)
    shape = (2, len(graph.relations), len(graph.entities), len(graph.entities))
    return generator.standard_normal(shape) if levels is None else 1.0 * generator.integers(levels, size=shape)


def scorer_of(scores: Table) -> Scorer:
    return lambda q: scores[q.side, q.relation, q.given].astype(np.float32)


def members_of(
    graph: Graph, triple: tuple[int, int, int], side: int, scores: Floats, size: int, part: float
) -> list[int]:
    """The shortlist of one triple's side by its definition: for every candidate, all others are compared with it."""
    known = {t for split in ("train", "valid", "test") for t in map(tuple, graph.triples[split].tolist())}
    h, r, t = triple
    answer = t if side == TAIL else h
    free = [x for x in range(len(scores)) if x == answer or ((h, r, x) if side == TAIL else (x, r, t)) not in known]
    margin = part * max(abs(scores))
    return [x for x in free if sum(scores[y] >= scores[x] - margin for y in free) <= size]


def reranked(graph: Graph, first: Table, second: Table, size: int, part: float) -> tuple[dict[int, list[float]], Table]:
    """Ranks by side from a full sort of each query, in float64, and which answers are on their list [2, t]."""
    found: dict[int, list[float]] = {TAIL: [], HEAD: []}
    inside = np.zeros((2, len(graph.triples["test"])), dtype=bool)
    plain = rank(graph.triples["test"], known_answers(graph, "test"), scorer_of(first), part)
    for i, (h, r, t) in enumerate(graph.triples["test"].tolist()):
        for side, given, answer in ((TAIL, h, t), (HEAD, t, h)):
            members = members_of(graph, (h, r, t), side, first[side, r, given], size, part)
            if answer not in members:
                found[side].append(float((plain.tail if side == TAIL else plain.head).realistic[i]))
                continue
            inside[side, i] = True
            own, others = second[side, r, given, answer], second[side, r, given, members]
            margin = part * max(abs(others))
            order = sorted(others, reverse=True)
            places = [place for place, score in enumerate(order, 1) if abs(score - own) <= margin]
            found[side].append((places[0] + places[-1]) / 2)
    return found, inside


def listed(graph: Graph, first: Table, size: int, part: float = 0.0) -> Shortlists:
    return Shortlists.of(Asked.of(graph.triples["test"], known_answers(graph, "test")), scorer_of(first), size, part)


def looked_up(lists: Shortlists, scores: Table) -> Floats:
    queries = lists.queries
    found = scores[queries.side[:, None], queries.relation[:, None], queries.given[:, None], lists.members]
    return np.where(lists.filled, found, 1e9)  # what stands behind a list's end must not count


@pytest.mark.parametrize("part", [0.0, 0.1], ids=["exact", "tolerant"])
@pytest.mark.parametrize("levels", [None, 12, 1], ids=["random", "ties", "all level"])
@pytest.mark.parametrize("size", [1, 5, 8, 30])
def test_lists_and_ranks_are_those_of_a_full_sort(size: int, levels: int | None, part: float) -> None:
    graph = random_graph(1, entities=25, triples=500)
    first, second = table(graph, 1, levels).astype(np.float32).astype(np.float64), table(graph, 2, 30)
    lists = listed(graph, first, size, part)
    expected, inside = reranked(graph, first, second, size, part)
    ranks = lists.ranks(looked_up(lists, second))
    np.testing.assert_array_equal(ranks.tail.realistic, expected[TAIL])
    np.testing.assert_array_equal(ranks.head.realistic, expected[HEAD])
    recall = {"both": inside.mean(), "head": inside[HEAD].mean(), "tail": inside[TAIL].mean()}
    assert lists.recall() == pytest.approx(recall)
    for query, answer, members, scores in zip(
        zip(lists.queries.side, lists.queries.relation, lists.queries.given, strict=True),
        lists.members[:, 0], lists.members, lists.scores, strict=True,
    ):  # fmt: skip
        side, relation, given = query
        triple = (given, relation, answer) if side == TAIL else (answer, relation, given)
        on = members[members >= 0]
        assert sorted(on) == members_of(graph, triple, side, first[side, relation, given], size, part)
        np.testing.assert_array_equal(scores[: len(on)], first[side, relation, given, on])


def test_where_the_list_would_end_among_level_candidates_none_of_them_is_on_it() -> None:
    graph = Graph.from_names({"train": [("a", "r", x) for x in "bcdef"], "test": [("a", "r", "a")]})
    scores = np.zeros((2, 1, 6, 6))
    scores[TAIL, 0, 0] = [3, 0, 0, 0, 0, 0]  # of (a, r, ?) all but a are known
    alone = listed(graph, scores, 2)
    assert alone.members[alone.queries.side == TAIL].tolist() == [[0, -1]]
    scores[HEAD, 0, 0] = [2, 5, 2, 4, 1, 0]  # (?, r, a): a is level with c behind b and d
    assert HEAD not in listed(graph, scores, 3).queries.side
    (members,) = listed(graph, scores, 4).members[listed(graph, scores, 4).queries.side == HEAD].tolist()
    assert members[0] == 0
    assert set(members) == {0, 1, 2, 3}


def test_the_order_of_the_first_model_changes_nothing() -> None:
    graph = random_graph(2, entities=25, triples=500)
    first = table(graph, 3, None)
    lists = listed(graph, first, 6)
    plain = rank(graph.triples["test"], known_answers(graph, "test"), scorer_of(first))

    def same(ranks: Ranks) -> None:
        for found, expected in ((ranks.tail, plain.tail), (ranks.head, plain.head)):
            np.testing.assert_array_equal(found.realistic, expected.realistic)
            np.testing.assert_array_equal(found.candidates, expected.candidates)

    same(lists.ranks())
    same(lists.ranks(lists.scores))
    same(lists.ranks(lists.standard(lists.scores)))


def test_scores_are_standardised_within_each_list() -> None:
    graph = random_graph(2, entities=25, triples=500)
    lists = listed(graph, table(graph, 3, 9), 6)
    assert not lists.filled.all()
    for on, scores, standard in zip(lists.filled, lists.scores, lists.standard(lists.scores), strict=True):
        own = scores[on]
        expected = (own - own.mean()) / own.std() if own.std() else np.zeros(len(own))
        np.testing.assert_allclose(standard[on], expected, atol=1e-12)
        assert not standard[~on].any()


def test_queries_in_chunks_give_the_same_lists(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = random_graph(2, entities=25, triples=500)
    whole = listed(graph, table(graph, 3, 9), 6)
    monkeypatch.setattr("trainer.ranking.QUERIES_A_CHUNK", 7)
    pieces = listed(graph, table(graph, 3, 9), 6)
    np.testing.assert_array_equal(pieces.pairs, whole.pairs)
    np.testing.assert_array_equal(np.sort(pieces.members), np.sort(whole.members))


def test_no_triples_have_no_lists() -> None:
    graph = Graph.from_names({"train": [("a", "r", "b")]})
    lists = listed(graph, np.zeros((2, 1, 2, 2)), 3)
    assert len(lists.ranks(lists.scores)) == 0
    assert isinstance(lists.queries, Queries)
