import numpy as np
import pytest

from protocol.messages import HEAD, TAIL
from trainer.fusion import SHARES, fitting_half
from trainer.graph import Graph
from trainer.ranking import Floats, Scorer, known_answers, rank
from trainer.reranking import Judged, Reranked, rerank, sampled
from trainer.shortlists import Shortlists

from .support import random_graph

Table = np.ndarray


def tables(graph: Graph, seed: int, strengths: tuple[float, float]) -> tuple[Table, Table]:
    """Two models [side, relation, given, candidate]: noise, and `strength` on whatever is true."""
    generator = np.random.default_rng(seed)
    made = []
    for strength in strengths:
        scores = generator.standard_normal((2, len(graph.relations), len(graph.entities), len(graph.entities)))
        for split in graph.triples:
            head, relation, tail = graph.triples[split].T
            scores[TAIL, relation, head, tail] += strength
            scores[HEAD, relation, tail, head] += strength
        made.append(scores.astype(np.float32).astype(np.float64))
    return made[0], made[1]


def first_of(scores: Table) -> Scorer:
    return lambda q: scores[q.side, q.relation, q.given].astype(np.float32)


def second_of(scores: Table) -> Judged:
    def judged(lists: Shortlists) -> Floats:
        q = lists.queries
        return scores[q.side[:, None], q.relation[:, None], q.given[:, None], lists.members]

    return judged


def reference(graph: Graph, split: str, first: Table, second: Table, size: int, share: float) -> Floats:
    """Ranks [2, t] from a full sort of each query's filtered candidates, the top of which is sorted anew."""
    splits = ("train", "valid", "test") if split == "test" else ("train", "valid")
    known = {t for s in splits for t in map(tuple, graph.triples[s].tolist())}
    found = np.empty((2, len(graph.triples[split])))
    for i, (h, r, t) in enumerate(graph.triples[split].tolist()):
        for side, given, answer in ((TAIL, h, t), (HEAD, t, h)):
            free = [
                x for x in range(len(graph.entities))
                if x == answer or ((h, r, x) if side == TAIL else (x, r, t)) not in known
            ]  # fmt: skip
            one, other = first[side, r, given], second[side, r, given]
            order = sorted(free, key=lambda x: -one[x])
            top, rest = order[:size], order[size:]
            a, b = ((x - x.mean()) / max(x.std(), 1e-9) for x in (one[top], other[top]))
            fused = dict(zip(top, (1 - share) * a + share * b, strict=True))
            found[side, i] = 1 + [*sorted(top, key=lambda x: -fused[x]), *rest].index(answer)
    return found


def reference_share(ranks: list[Floats], side: int) -> float:
    """The rule of fusion, on reciprocal validation ranks with each share."""
    half = fitting_half(ranks[0].shape[1])
    quality = [1 / each[side] for each in ranks]
    fitted = max(range(len(SHARES)), key=lambda i: (round(quality[i][half].mean(), 9), -abs(SHARES[i] - 0.5)))
    fused, alone, other = (float(each[~half].mean()) for each in (quality[fitted], quality[0], quality[-1]))
    if fused > max(alone, other):
        return float(SHARES[fitted])
    return 0.0 if alone > other else 1.0


def both(found: Reranked, name: str) -> Floats:
    ranks = getattr(found, name)
    made = np.empty((2, len(ranks)))
    made[TAIL], made[HEAD] = ranks.tail.realistic, ranks.head.realistic
    return made


def test_all_three_rankings_are_those_of_a_full_sort_with_the_share_of_the_rule() -> None:
    shares = []
    for seed, strengths in enumerate([(1.5, 1.2), (2.5, 0.1), (0.8, 3.0)]):
        graph = random_graph(seed, entities=25, triples=450)
        first, second = tables(graph, seed, strengths)
        found = rerank(graph, first_of(first), second_of(second), 7, 0.0, None)
        on_valid = [reference(graph, "valid", first, second, 7, share) for share in SHARES]
        share = [reference_share(on_valid, side) for side in (TAIL, HEAD)]
        assert found.fusion.weights[[TAIL, HEAD], 1].tolist() == pytest.approx(share)
        alone, other = (reference(graph, "test", first, second, 7, each) for each in (0.0, 1.0))
        np.testing.assert_array_equal(both(found, "alone"), alone)
        np.testing.assert_array_equal(both(found, "reranked"), other)
        mixed = np.stack([reference(graph, "test", first, second, 7, share[side])[side] for side in (TAIL, HEAD)])
        np.testing.assert_array_equal(both(found, "mixture"), mixed)
        assert found.recall["both"] == pytest.approx((alone <= 7).mean())
        shares += share
    assert any(0 < share < 1 for share in shares)
    assert {0.0, 1.0} & set(shares)


def test_a_judge_that_knows_better_lifts_what_is_on_the_lists_and_nothing_else() -> None:
    graph = random_graph(1, entities=40, triples=600)
    first, second = tables(graph, 1, (1.0, 50.0))
    found = rerank(graph, first_of(first), second_of(second), 10, 0.0, None)
    alone, reranked = both(found, "alone"), both(found, "reranked")
    assert (reranked[alone <= 10] == 1).all()
    np.testing.assert_array_equal(reranked[alone > 10], alone[alone > 10])
    assert found.reranked.metrics()["both"].hits_at_1 == pytest.approx(found.recall["both"])


def test_neither_shares_nor_lists_of_validation_look_at_test_triples() -> None:
    graph = random_graph(2, entities=25, triples=450)
    fewer = Graph(graph.entities, graph.relations, dict(graph.triples) | {"test": graph.triples["test"][:5]})
    first, second = tables(graph, 2, (1.0, 1.0))
    of_all, of_few = (rerank(each, first_of(first), second_of(second), 7, 0.0, None) for each in (graph, fewer))
    np.testing.assert_array_equal(of_all.fusion.weights, of_few.fusion.weights)


def test_a_sample_is_ranked_as_among_all_and_is_always_the_same() -> None:
    graph = random_graph(2, entities=25, triples=450)
    first, second = tables(graph, 2, (1.0, 1.0))
    few = rerank(graph, first_of(first), second_of(second), 7, 0.0, 12)
    assert (len(few.alone), few.fitted) == (12, 12)
    triples = sampled(graph.triples["test"], 12)
    np.testing.assert_array_equal(triples, sampled(graph.triples["test"], 12))
    assert {tuple(t) for t in triples.tolist()} < {tuple(t) for t in graph.triples["test"].tolist()}
    plain = rank(triples, known_answers(graph, "test"), first_of(first))
    np.testing.assert_array_equal(few.alone.tail.realistic, plain.tail.realistic)
    assert len(sampled(graph.triples["test"], 10_000)) == len(graph.triples["test"])


def test_without_validation_triples_both_weigh_the_same() -> None:
    graph = random_graph(2, entities=25, triples=450)
    without = Graph(graph.entities, graph.relations, dict(graph.triples) | {"valid": graph.triples["valid"][:0]})
    first, second = tables(graph, 2, (1.0, 1.0))
    found = rerank(without, first_of(first), second_of(second), 7, 0.0, None)
    assert found.fusion.weights.tolist() == [[0.5, 0.5], [0.5, 0.5]]
    assert found.fitted == 0
