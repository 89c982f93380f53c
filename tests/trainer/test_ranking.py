from collections.abc import Callable

import numpy as np
import pytest
import torch
from pykeen.evaluation import RankBasedEvaluator
from pykeen.models.mocks import FixedModel
from pykeen.triples import CoreTriplesFactory

from protocol.messages import HEAD, TAIL
from trainer.answers import Answers, Queries
from trainer.graph import Graph, Triples
from trainer.metrics import Places
from trainer.ranking import Floats, Scorer, ScoresNotFinite, known_answers, rank

from .support import random_graph

Table = np.ndarray


def score_tables(graph: Graph, seed: int, levels: int | None) -> Table:
    """Scores [side, relation, given, candidate]; few levels make many ties."""
    generator = np.random.default_rng(seed)
    shape = (2, len(graph.relations), len(graph.entities), len(graph.entities))
    drawn = generator.standard_normal(shape) if levels is None else generator.integers(levels, size=shape)
    return drawn.astype(np.float32)


def scorer_of(scores: Table) -> Scorer:
    return lambda q: scores[q.side, q.relation, q.given]


class Tabled(FixedModel):
    """PyKEEN's own idea of a model, with the same scores."""

    scores: torch.Tensor

    def score_t(self, hr_batch: torch.Tensor, **kwargs: object) -> torch.Tensor:
        return self.scores[TAIL, hr_batch[:, 1], hr_batch[:, 0]]

    def score_h(self, rt_batch: torch.Tensor, **kwargs: object) -> torch.Tensor:
        return self.scores[HEAD, rt_batch[:, 0], rt_batch[:, 1]]


def pykeen_metric(graph: Graph, split: str, scores: Table) -> Callable[[str], float]:
    sizes = {"num_entities": len(graph.entities), "num_relations": len(graph.relations)}
    factory = CoreTriplesFactory(torch.from_numpy(graph.train), **sizes)
    model = Tabled(triples_factory=factory)
    model.scores = torch.from_numpy(scores)
    others = [s for s in ("train", "valid", "test") if s != split and (split == "test" or s != "test")]
    found = RankBasedEvaluator(filtered=True).evaluate(
        model,
        torch.from_numpy(graph.triples[split]),
        additional_filter_triples=[torch.from_numpy(graph.triples[s]) for s in others],
        batch_size=16,
        use_tqdm=False,
    )
    return found.get_metric


@pytest.mark.parametrize("split", ["valid", "test"])
@pytest.mark.parametrize("levels", [None, 4, 1], ids=["random", "ties", "all level"])
@pytest.mark.parametrize("seed", range(3))
def test_metrics_are_those_of_pykeen(seed: int, levels: int | None, split: str) -> None:
    graph = random_graph(seed, entities=25, triples=400)
    scores = score_tables(graph, seed, levels)
    ours = rank(graph.triples[split], known_answers(graph, split), scorer_of(scores)).metrics()
    theirs = pykeen_metric(graph, split, scores)
    for side in ("both", "head", "tail"):
        best, worst = (theirs(f"{side}.{kind}.inverse_harmonic_mean_rank") for kind in ("optimistic", "pessimistic"))
        expected = {
            "mrr": theirs(f"{side}.realistic.inverse_harmonic_mean_rank"),
            **{f"hits@{k}": theirs(f"{side}.realistic.hits_at_{k}") for k in (1, 3, 5, 10)},
            "mr": theirs(f"{side}.realistic.arithmetic_mean_rank"),
            "amri": theirs(f"{side}.realistic.adjusted_arithmetic_mean_rank_index"),
            "mrr_gap": best - worst,
        }
        assert ours[side].model_dump() == pytest.approx(expected, abs=1e-6)
        assert (ours[side].mrr_gap > 0) == (levels is not None)


def brute_force(graph: Graph, split: str, scores: Table, tolerance: float) -> dict[int, list[tuple[int, int, int]]]:
    """Above, level and candidates of each triple by side: entity by entity, in float64."""
    splits = ("train", "valid", "test") if split == "test" else ("train", "valid")
    known = {triple for s in splits for triple in map(tuple, graph.triples[s].tolist())}
    found: dict[int, list[tuple[int, int, int]]] = {TAIL: [], HEAD: []}
    for h, r, t in graph.triples[split].tolist():
        for side, given, answer in ((TAIL, h, t), (HEAD, t, h)):
            row = scores[side, r, given].astype(np.float64)
            others = [e for e in range(len(row)) if e != answer and triple_of(side, given, r, e) not in known]
            margin = tolerance * np.abs(row).max()
            level = np.abs(row[others] - row[answer]) <= margin
            above = (row[others] > row[answer]) & ~level
            found[side].append((int(above.sum()), int(level.sum()), len(others) + 1))
    return found


def triple_of(side: int, given: int, relation: int, answer: int) -> tuple[int, int, int]:
    return (given, relation, answer) if side == TAIL else (answer, relation, given)


def as_rows(places: Places) -> list[tuple[int, ...]]:
    return list(zip(places.above.tolist(), places.level.tolist(), places.candidates.tolist(), strict=True))


@pytest.mark.parametrize("split", ["valid", "test"])
@pytest.mark.parametrize("tolerance", [0.0, 0.03, 0.3])
@pytest.mark.parametrize("levels", [None, 4], ids=["random", "ties"])
def test_places_are_those_of_a_search_by_hand(levels: int | None, tolerance: float, split: str) -> None:
    graph = random_graph(7, entities=25, triples=400)
    scores = score_tables(graph, 1, levels)
    ranks = rank(graph.triples[split], known_answers(graph, split), scorer_of(scores), tolerance)
    expected = brute_force(graph, split, scores, tolerance)
    assert as_rows(ranks.tail) == expected[TAIL]
    assert as_rows(ranks.head) == expected[HEAD]


def test_scores_that_lost_bits_are_ranked_as_they_were_with_a_tolerance() -> None:
    """A model in bfloat16 gives candidates that it knows no difference between numbers some last bits apart."""
    graph = random_graph(2, entities=40, triples=800)
    exact = score_tables(graph, 0, 6) - 9  # many candidates are level
    way = np.random.default_rng(1).uniform(0.5, 2, exact.shape).astype(np.float32)
    rounded = torch.from_numpy(exact * way).to(torch.bfloat16).float().numpy() / way

    def ranks(scores: Table, tolerance: float) -> list[list[float]]:
        found = rank(graph.triples["test"], known_answers(graph, "test"), scorer_of(scores), tolerance)
        return [found.tail.realistic.tolist(), found.head.realistic.tolist()]

    assert ranks(rounded, 2**-7) == ranks(exact, 0.0)
    assert ranks(rounded, 0.0) != ranks(exact, 0.0)
    assert ranks(1000 * rounded, 2**-7) == ranks(exact, 0.0)  # relative to the scores, whatever their unit


def test_a_model_that_scores_all_alike_is_chance(small: Graph) -> None:
    ranks = rank(small.triples["test"], known_answers(small, "test"), lambda q: np.full((len(q), 12), -3.5, np.float32))
    candidates = np.concatenate([ranks.tail.candidates, ranks.head.candidates])
    both = ranks.metrics()["both"]
    assert both.amri == 0.0
    assert both.mrr == pytest.approx(np.mean(2 / (candidates + 1)))
    assert both.mrr_gap == pytest.approx(1 - np.mean(1 / candidates))


def test_an_answer_without_a_rival_is_first() -> None:
    graph = Graph.from_names({"train": [("a", "r", "a"), ("b", "r", "b")], "test": [("a", "r", "b")]})
    ranks = rank(graph.triples["test"], known_answers(graph, "test"), lambda q: np.zeros((len(q), 2)))
    assert as_rows(ranks.tail) == as_rows(ranks.head) == [(0, 0, 1)]
    assert ranks.metrics()["both"].amri == 0.0


def worked_example() -> tuple[Graph, Scorer]:
    # Query (a, r, ?): scores a 1, b 4, c 3, d 3, e 2.
    named = {"train": [("a", "r", "b"), ("c", "s", "d"), ("e", "s", "d")], "valid": [("a", "r", "c")]}
    graph = Graph.from_names(named | {"test": [("a", "r", "d"), ("a", "r", "e")]})
    return graph, lambda q: np.tile(np.array([1, 4, 3, 3, 2.0]), (len(q), 1))


def test_a_tie_shares_its_mean_rank_and_known_answers_are_no_rivals() -> None:
    graph, scores = worked_example()
    # b is known from training; d is level with c, and no filter: it is a test triple.
    assert rank(graph.triples["valid"], known_answers(graph, "valid"), scores).tail.realistic.tolist() == [1.5]


def test_test_triples_filter_the_test_split_alone() -> None:
    graph, scores = worked_example()
    # b and c are known; d and e do not rival one another. a is below both.
    assert rank(graph.triples["test"], known_answers(graph, "test"), scores).tail.realistic.tolist() == [1.0, 1.0]
    asked = Answers.of(graph.triples["test"]).queries
    without = known_answers(graph, "valid")
    position, entities = without.rows(without.find(asked))
    given, side = asked.given[position], asked.side[position]
    assert sorted(entities[(given == 0) & (side == TAIL)].tolist()) == [1, 2]


def test_a_triple_outside_the_filter_is_not_its_own_rival() -> None:
    graph, scores = worked_example()
    # d is level with c, which is known from validation; e is below c and d, and d is in no filter here.
    without = known_answers(graph, "valid")
    found = [rank(triple[None], without, scores).tail for triple in graph.triples["test"]]
    assert [as_rows(places) for places in found] == [[(0, 0, 3)], [(1, 0, 3)]]


def test_ranks_come_in_the_order_of_the_triples() -> None:
    graph = random_graph(3, entities=25, triples=400)
    scores, known = scorer_of(score_tables(graph, 0, None)), known_answers(graph, "test")
    triples = graph.triples["test"]

    def rows(triples: Triples, side: str) -> list[tuple[int, ...]]:
        return as_rows(getattr(rank(triples, known, scores), side))

    for side in ("tail", "head"):
        forward = rows(triples, side)
        assert forward == rows(triples[::-1], side)[::-1]
        assert forward == [row for i in range(len(triples)) for row in rows(triples[i : i + 1], side)]


@pytest.mark.parametrize(
    ("bound", "limit", "largest"), [("QUERIES_A_CHUNK", 7, 7), ("SCORES_A_CHUNK", 25 * 9, 9), ("SCORES_A_CHUNK", 3, 1)]
)
def test_many_queries_are_ranked_in_chunks_as_at_once(
    monkeypatch: pytest.MonkeyPatch, bound: str, limit: int, largest: int
) -> None:
    graph = random_graph(3, entities=25, triples=400)
    scores, known = scorer_of(score_tables(graph, 0, 5)), known_answers(graph, "test")
    whole = rank(graph.triples["test"], known, scores)
    monkeypatch.setattr(f"trainer.ranking.{bound}", limit)
    sizes: list[int] = []

    def counting(asked: Queries) -> Floats:
        sizes.append(len(asked))
        return scores(asked)

    chunked = rank(graph.triples["test"], known, counting)
    assert max(sizes) == largest
    assert (as_rows(chunked.tail), as_rows(chunked.head)) == (as_rows(whole.tail), as_rows(whole.head))


def test_scores_may_lie_in_any_order(small: Graph) -> None:
    scores, known = scorer_of(score_tables(small, 0, 4)), known_answers(small, "test")
    plain = rank(small.triples["test"], known, scores)
    columns = rank(small.triples["test"], known, lambda q: np.asfortranarray(scores(q)))
    assert as_rows(columns.tail) == as_rows(plain.tail)


def test_a_filter_is_made_once_a_graph_and_split(small: Graph) -> None:
    other = random_graph(1)
    assert known_answers(small, "valid") is known_answers(small, "valid")
    assert known_answers(small, "valid") is not known_answers(small, "test")
    assert len(known_answers(other, "valid").entities) != len(known_answers(small, "valid").entities)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_scores_that_are_not_finite_are_refused(small: Graph, value: float) -> None:
    scores = score_tables(small, 0, None)
    scores[0, :, :, 0] = value
    with pytest.raises(ScoresNotFinite):
        rank(small.triples["test"], known_answers(small, "test"), scorer_of(scores))


def test_scores_of_too_few_candidates_are_not_counted(small: Graph) -> None:
    known = known_answers(small, "test")
    for shape in ((0, -1), (-1, 0)):
        with pytest.raises(AssertionError):
            rank(small.triples["test"], known, lambda q, s=shape: np.zeros((len(q) + s[0], 12 + s[1])))
