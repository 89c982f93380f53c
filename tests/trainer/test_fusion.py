import numpy as np
import pytest

from protocol.messages import HEAD, TAIL
from trainer.answers import Answers, Queries
from trainer.fusion import SHARES, Fusion, fit, fitting_half
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


def reference_ranks(graph: Graph, scorers: tuple[Scorer, Scorer], side: int, share: float) -> Floats:
    """Reciprocal realistic ranks of one side's validation answers, triple by triple, known ones left out."""
    known = {(h, r, t) for split in ("train", "valid") for h, r, t in graph.triples[split].tolist()}
    found = []
    for h, r, t in graph.triples["valid"].tolist():
        given, answer = (h, t) if side == TAIL else (t, h)
        rows = [scorer(queries((given, r, side)))[0] for scorer in scorers]
        fused = sum(w * (x - x.mean()) / x.std() for w, x in zip((1 - share, share), rows, strict=True))
        free = [x for x in range(len(fused)) if ((h, r, x) if side == TAIL else (x, r, t)) not in known]
        above, level = (fused[free] > fused[answer]).sum(), (fused[free] == fused[answer]).sum()
        found.append(1 / (1 + above + level / 2))
    return np.array(found)


def reference_share(graph: Graph, scorers: tuple[Scorer, Scorer], side: int) -> float:
    """The best share of one half of the validation triples, where it beats both models alone on the other half."""
    half = fitting_half(len(graph.triples["valid"]))
    ranks = [reference_ranks(graph, scorers, side, share) for share in SHARES]
    fitted = max(range(len(SHARES)), key=lambda i: (round(ranks[i][half].mean(), 9), -abs(SHARES[i] - 0.5)))
    fused, isolation, federation = (float(each[~half].mean()) for each in (ranks[fitted], ranks[0], ranks[-1]))
    if fused > max(isolation, federation):
        return float(SHARES[fitted])
    return 0.0 if isolation > federation else 1.0


def test_a_share_is_fitted_on_one_half_and_must_beat_both_models_on_the_other() -> None:
    shares = []
    for seed, strength in enumerate([(1.5, 1.2), (2.5, 0.1), (0.2, 2.5)]):
        graph = random_graph(seed, entities=30, triples=500)
        scorers = (scorer_of(graph, (strength[0],) * 2, seed), scorer_of(graph, (strength[1],) * 2, seed + 10))
        weights = fit(graph, *scorers).weights
        expected = [reference_share(graph, scorers, side) for side in (TAIL, HEAD)]
        assert weights[[TAIL, HEAD], 1].tolist() == pytest.approx(expected)
        shares += expected
    assert any(0 < share < 1 for share in shares)
    assert {0.0, 1.0} <= set(shares)


def test_the_halves_are_halves_and_always_the_same() -> None:
    half = fitting_half(101)
    assert half.sum() == 51
    assert (half == fitting_half(101)).all()
    assert 15 < half[:51].sum() < 36  # drawn from everywhere


def test_where_nothing_tells_the_models_apart_federation_is_taken(graph: Graph) -> None:
    """A tolerance beyond all differences makes every candidate level."""
    isolation, federation = scorer_of(graph, (2, 2), 0), scorer_of(graph, (1, 1), 1)
    assert fit(graph, isolation, federation, tolerance=2.0).weights.tolist() == [[0, 1], [0, 1]]


def test_one_validation_triple_is_enough(graph: Graph) -> None:
    one = Graph(graph.entities, graph.relations, dict(graph.triples) | {"valid": graph.triples["valid"][:1]})
    weights = fit(one, scorer_of(graph, (2, 2), 0), scorer_of(graph, (1, 1), 1)).weights
    assert weights.tolist() == [[0, 1], [0, 1]]  # nothing is left to show that a fused model is better


@pytest.mark.parametrize(
    ("name", "limit"), [("trainer.fusion.QUERIES_A_PIECE", 3), ("trainer.ranking.QUERIES_A_CHUNK", 7)]
)
def test_many_triples_are_fitted_in_pieces_as_at_once(
    graph: Graph, monkeypatch: pytest.MonkeyPatch, name: str, limit: int
) -> None:
    scorers = (scorer_of(graph, (1, 1), 0), scorer_of(graph, (1, 1), 1))
    whole = fit(graph, *scorers).weights
    monkeypatch.setattr(name, limit)
    np.testing.assert_array_equal(fit(graph, *scorers).weights, whole)


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
