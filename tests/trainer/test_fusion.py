import numpy as np
import pytest

from protocol.messages import HEAD, TAIL
from trainer.answers import Answers, Queries
from trainer.fusion import SHARES, Fusion, fit
from trainer.graph import Graph
from trainer.ranking import Floats, Scorer, known_answers, rank

from .support import queries, random_graph


def scorer_of(graph: Graph, strength: tuple[float, float], seed: int, scale: float = 1.0) -> Scorer:
    """Noise, plus `strength` on the true answers of all splits, by side."""
    every = Answers.of(np.concatenate([graph.triples[s] for s in ("train", "valid", "test")]))
    count = len(graph.entities)
    noise = np.random.default_rng(seed).standard_normal((2, len(graph.relations), count, count))

    def scores(asked: Queries) -> Floats:
        out = noise[asked.side, asked.relation, asked.given].copy()
        row, answer = every.rows(every.find(asked))
        out[row, answer] += np.array(strength)[asked.side[row]]
        return out * scale

    return scores


def mrr(graph: Graph, split: str, scorer: Scorer) -> float:
    return rank(graph.triples[split], known_answers(graph, split), scorer).metrics()["both"].mrr


@pytest.fixture(scope="module")
def graph() -> Graph:
    return random_graph(5, entities=30, triples=500)


def test_the_better_model_weighs_more(graph: Graph) -> None:
    good, bad = scorer_of(graph, (2, 2), 0), scorer_of(graph, (0, 0), 1)
    first, second = fit(graph, good, bad).weights, fit(graph, bad, good).weights
    assert (first[:, 0] > 2 * np.abs(first[:, 1])).all()
    np.testing.assert_allclose(first, second[:, ::-1], atol=1e-3)


def test_each_side_has_its_own_weights(graph: Graph) -> None:
    tails, heads = scorer_of(graph, (2, 0), 0), scorer_of(graph, (0, 2), 1)
    weights = fit(graph, tails, heads).weights
    assert weights.shape == (2, 2)
    assert weights[TAIL, 0] > weights[TAIL, 1] + 0.5
    assert weights[HEAD, 1] > weights[HEAD, 0] + 0.5


@pytest.mark.parametrize("strengths", [((1, 1), (1, 1)), ((2, 2), (0, 0)), ((0.3, 2), (1, 1)), ((0, 0), (0, 0))])
def test_the_fused_model_is_not_below_the_better_one_on_validation(
    graph: Graph, strengths: tuple[tuple[float, float], tuple[float, float]]
) -> None:
    isolation, federation = scorer_of(graph, strengths[0], 0), scorer_of(graph, strengths[1], 1)
    fused = fit(graph, isolation, federation).scorer(isolation, federation)
    better = max(mrr(graph, "valid", isolation), mrr(graph, "valid", federation))
    assert mrr(graph, "valid", fused) > better - 0.02


def test_models_that_know_different_things_are_better_together(graph: Graph) -> None:
    isolation, federation = scorer_of(graph, (1.2, 1.2), 0), scorer_of(graph, (1.2, 1.2), 1)
    fused = fit(graph, isolation, federation).scorer(isolation, federation)
    assert mrr(graph, "test", fused) > 0.03 + max(mrr(graph, "test", isolation), mrr(graph, "test", federation))


def reference_mrr(graph: Graph, scorers: tuple[Scorer, Scorer], side: int, share: float) -> float:
    """Mean reciprocal realistic rank of one side's validation answers, triple by triple, known ones left out."""
    known = {(h, r, t) for split in ("train", "valid") for h, r, t in graph.triples[split].tolist()}
    found = []
    for h, r, t in graph.triples["valid"].tolist():
        given, answer = (h, t) if side == TAIL else (t, h)
        rows = [scorer(queries((given, r, side)))[0] for scorer in scorers]
        fused = sum(w * (x - x.mean()) / x.std() for w, x in zip((1 - share, share), rows, strict=True))
        free = [x for x in range(len(fused)) if ((h, r, x) if side == TAIL else (x, r, t)) not in known]
        above, level = (fused[free] > fused[answer]).sum(), (fused[free] == fused[answer]).sum()
        found.append(1 / (1 + above + level / 2))
    return float(np.mean(found))


@pytest.mark.parametrize("side", [TAIL, HEAD])
def test_no_other_share_has_a_better_validation_mrr(graph: Graph, side: int) -> None:
    scorers = (scorer_of(graph, (2, 1), 0), scorer_of(graph, (1, 1.5), 1))
    share = float(fit(graph, *scorers).weights[side, 1])
    best = reference_mrr(graph, scorers, side, share)
    others = [reference_mrr(graph, scorers, side, other) for other in SHARES]
    assert best == pytest.approx(max(others), abs=1e-9)
    assert best > min(others)


def test_scales_of_scores_do_not_matter(graph: Graph) -> None:
    federation = scorer_of(graph, (1, 1), 1)
    plain = fit(graph, scorer_of(graph, (1, 1), 0), federation).weights
    scaled = fit(graph, scorer_of(graph, (1, 1), 0, scale=1000.0), federation).weights
    np.testing.assert_allclose(plain, scaled, atol=1e-4)


def test_test_triples_are_not_looked_at(graph: Graph) -> None:
    isolation, federation = scorer_of(graph, (1, 1), 0), scorer_of(graph, (0.5, 0.5), 1)
    without = Graph(graph.entities, graph.relations, dict(graph.triples) | {"test": graph.triples["test"][:0]})
    np.testing.assert_array_equal(
        fit(graph, isolation, federation).weights, fit(without, isolation, federation).weights
    )


def test_without_validation_triples_both_weigh_the_same(graph: Graph) -> None:
    without = Graph(graph.entities, graph.relations, dict(graph.triples) | {"valid": graph.triples["valid"][:0]})
    fusion = fit(without, scorer_of(graph, (2, 2), 0), scorer_of(graph, (0, 0), 1))
    assert fusion.weights.tolist() == [[0.5, 0.5], [0.5, 0.5]]


def test_the_fused_score_is_the_weighted_sum_of_standard_scores() -> None:
    left, right = np.array([[1.0, 2, 6], [5, 5, 5]]), np.array([[0.0, 4, 2], [3, 0, 3]])
    fusion = Fusion(np.array([[0.5, 2], [3, -1]], dtype=np.float32))
    found = fusion.scorer(lambda q: left, lambda q: right)(queries((0, 0, TAIL), (0, 0, HEAD)))

    def z(row: Floats) -> Floats:
        return (row - row.mean()) / row.std()

    expected = [0.5 * z(left[0]) + 2 * z(right[0]), -z(right[1])]  # a model that scores all alike says nothing
    np.testing.assert_allclose(found, expected, atol=1e-6)
