from collections.abc import Callable

import numpy as np
import pytest
import torch
from pykeen.evaluation import RankBasedEvaluator
from pykeen.models.mocks import FixedModel
from pykeen.triples import CoreTriplesFactory

from protocol.messages import HEAD, TAIL
from trainer.answers import Answers, Queries
from trainer.graph import Graph
from trainer.ranking import Floats, Ranks, Scorer, ScoresNotFinite, known_answers, rank

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


def pykeen_metric(graph: Graph, split: str, scores: Table) -> Callable[[str, str], float]:
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
    return lambda side, name: found.get_metric(f"{side}.realistic.{name}")


@pytest.mark.parametrize("split", ["valid", "test"])
@pytest.mark.parametrize("levels", [None, 4, 1], ids=["random", "ties", "all level"])
@pytest.mark.parametrize("seed", range(3))
def test_metrics_are_those_of_pykeen(seed: int, levels: int | None, split: str) -> None:
    graph = random_graph(seed, entities=25, triples=400)
    scores = score_tables(graph, seed, levels)
    ours = rank(graph.triples[split], known_answers(graph, split), scorer_of(scores)).metrics()
    theirs = pykeen_metric(graph, split, scores)
    for side in ("both", "head", "tail"):
        assert ours[side].mrr == pytest.approx(theirs(side, "inverse_harmonic_mean_rank"), abs=1e-6)
        assert ours[side].hits_at_1 == pytest.approx(theirs(side, "hits_at_1"), abs=1e-6)
        assert ours[side].hits_at_3 == pytest.approx(theirs(side, "hits_at_3"), abs=1e-6)
        assert ours[side].hits_at_10 == pytest.approx(theirs(side, "hits_at_10"), abs=1e-6)


def worked_example() -> tuple[Graph, Scorer]:
    # Query (a, r, ?): scores a 1, b 4, c 3, d 3, e 2.
    named = {"train": [("a", "r", "b"), ("c", "s", "d"), ("e", "s", "d")], "valid": [("a", "r", "c")]}
    graph = Graph.from_names(named | {"test": [("a", "r", "d"), ("a", "r", "e")]})
    return graph, lambda q: np.tile(np.array([1, 4, 3, 3, 2.0]), (len(q), 1))


def test_a_tie_shares_its_mean_rank_and_known_answers_are_no_rivals() -> None:
    graph, scores = worked_example()
    # b is known from training; d is level with c, and no filter: it is a test triple.
    assert rank(graph.triples["valid"], known_answers(graph, "valid"), scores).tail.tolist() == [1.5]


def test_test_triples_filter_the_test_split_alone() -> None:
    graph, scores = worked_example()
    # b and c are known; d and e do not rival one another. a is below both.
    assert rank(graph.triples["test"], known_answers(graph, "test"), scores).tail.tolist() == [1.0, 1.0]
    asked = Answers.of(graph.triples["test"]).queries
    without = known_answers(graph, "valid")
    position, entities = without.rows(without.find(asked))
    given, side = asked.given[position], asked.side[position]
    assert sorted(entities[(given == 0) & (side == TAIL)].tolist()) == [1, 2]


def test_a_triple_outside_the_filter_is_not_its_own_rival() -> None:
    graph, scores = worked_example()
    # d is level with c, which is known from validation; e is below c and d, and d is in no filter here.
    without = known_answers(graph, "valid")
    assert [rank(triple[None], without, scores).tail[0] for triple in graph.triples["test"]] == [1.0, 2.0]


def test_ranks_come_in_the_order_of_the_triples() -> None:
    graph = random_graph(3, entities=25, triples=400)
    scores, known = scorer_of(score_tables(graph, 0, None)), known_answers(graph, "test")
    triples = graph.triples["test"]
    forward, backward = rank(triples, known, scores), rank(triples[::-1], known, scores)
    one_by_one = [rank(triples[i : i + 1], known, scores) for i in range(len(triples))]
    assert forward.tail.tolist() == backward.tail[::-1].tolist() == [r.tail[0] for r in one_by_one]
    assert forward.head.tolist() == backward.head[::-1].tolist() == [r.head[0] for r in one_by_one]


def test_many_queries_are_ranked_in_chunks_as_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = random_graph(3, entities=25, triples=400)
    scores, known = scorer_of(score_tables(graph, 0, 5)), known_answers(graph, "test")
    whole = rank(graph.triples["test"], known, scores)
    monkeypatch.setattr("trainer.ranking.QUERIES_A_CHUNK", 7)
    sizes: list[int] = []

    def counting(asked: Queries) -> Floats:
        sizes.append(len(asked))
        return scores(asked)

    chunked = rank(graph.triples["test"], known, counting)
    assert max(sizes) == 7
    assert (chunked.tail.tolist(), chunked.head.tolist()) == (whole.tail.tolist(), whole.head.tolist())


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_scores_that_are_not_finite_are_refused(small: Graph, value: float) -> None:
    scores = score_tables(small, 0, None)
    scores[0, :, :, 0] = value
    with pytest.raises(ScoresNotFinite):
        rank(small.triples["test"], known_answers(small, "test"), scorer_of(scores))


def test_metrics_of_given_ranks() -> None:
    metrics = Ranks(tail=np.array([1.0, 3.5]), head=np.array([3.0, 11.0])).metrics()
    assert metrics["both"].mrr == pytest.approx((1 + 1 / 3.5 + 1 / 3 + 1 / 11) / 4)
    assert metrics["both"].model_dump() == pytest.approx(
        {"mrr": metrics["both"].mrr, "hits@1": 0.25, "hits@3": 0.5, "hits@10": 0.75}
    )
    assert metrics["tail"].hits_at_3 == 0.5
    assert metrics["head"].hits_at_1 == 0.0
