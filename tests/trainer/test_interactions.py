from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from protocol.messages import HEAD, TAIL
from protocol.trainings import InteractionName, LocalSettings
from trainer.interactions import CLASSIC, Dropout, QueryInteraction, Tables, interaction_of
from trainer.interactions.mlp import WIDTH
from trainer.interactions.rotate import RADIANS

from .support import batch, float64_tables, queries

ENTITIES, RELATIONS, DIM = 7, 3, 6
TRIPLES = [(0, 0, 1), (2, 1, 3), (4, 2, 4), (6, 0, 5)]
EVERY = [(g, r, s) for g in range(ENTITIES) for r in range(RELATIONS) for s in (TAIL, HEAD)]


def tables_of(interaction: QueryInteraction) -> Tables:
    rows = RELATIONS * (2 if interaction.reciprocal else 1)
    return float64_tables(ENTITIES, rows, DIM, interaction.relation_width(DIM), interaction.dense(DIM, LocalSettings()))


def scores(interaction: QueryInteraction, tables: Tables, *rows: tuple[int, int, int]) -> Tensor:
    return interaction.compare(interaction.query(tables, batch(queries(*rows))), tables.entities)


def as_complex(row: Tensor) -> Tensor:
    real, imaginary = row.chunk(2, dim=-1)
    return torch.complex(real, imaginary)


def transe(h: Tensor, r: Tensor, t: Tensor) -> Tensor:
    return -(h + r - t).abs().sum()


def distmult(h: Tensor, r: Tensor, t: Tensor) -> Tensor:
    return (h * r * t).sum()


def complex_(h: Tensor, r: Tensor, t: Tensor) -> Tensor:
    return (as_complex(h) * as_complex(r) * as_complex(t).conj()).sum().real


def rotate(h: Tensor, r: Tensor, t: Tensor) -> Tensor:
    return -(as_complex(h) * torch.polar(torch.ones_like(r), r * RADIANS) - as_complex(t)).abs().sum()


Formula = Callable[[Tensor, Tensor, Tensor], Tensor]


@pytest.mark.parametrize(("name", "formula"), [("transe", transe), ("rotate", rotate)])
@pytest.mark.parametrize("side", [TAIL, HEAD])
def test_a_distance_scores_both_sides_by_its_one_formula(name: str, formula: Formula, side: int) -> None:
    interaction = CLASSIC[name]()
    tables = tables_of(interaction)
    e, r = tables.entities, tables.relations
    for head, relation, tail in TRIPLES:
        given = tail if side == HEAD else head
        (found,) = scores(interaction, tables, (given, relation, side))
        if side == TAIL:
            expected = torch.stack([formula(e[head], r[relation], e[x]) for x in range(ENTITIES)])
        else:
            expected = torch.stack([formula(e[x], r[relation], e[tail]) for x in range(ENTITIES)])
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize(("name", "formula"), [("distmult", distmult), ("complex", complex_)])
@pytest.mark.parametrize("side", [TAIL, HEAD])
def test_a_product_scores_the_given_entity_with_the_row_that_it_is_asked_by(
    name: str, formula: Formula, side: int
) -> None:
    # Reciprocal: a query for the head is the query for the tail of the inverse relation, a row of its own.
    interaction = CLASSIC[name]()
    assert interaction.reciprocal
    tables = tables_of(interaction)
    e, r = tables.entities, tables.relations
    for given, relation, _ in TRIPLES:
        row = relation + (RELATIONS if side == HEAD else 0)
        (found,) = scores(interaction, tables, (given, row, side))
        expected = torch.stack([formula(e[given], r[row], e[x]) for x in range(ENTITIES)])
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


def test_the_mlp_is_two_linear_layers_with_a_relu_between() -> None:
    interaction = interaction_of("mlp")
    tables = tables_of(interaction)
    network = torch.nn.Sequential(
        torch.nn.Linear(2 * DIM, WIDTH), torch.nn.ReLU(), torch.nn.Linear(WIDTH, DIM)
    ).double()
    names = ("mlp.hidden.weight", "mlp.hidden.bias", "mlp.output.weight", "mlp.output.bias")
    with torch.no_grad():
        for parameter, name in zip(network.parameters(), names, strict=True):
            parameter.copy_(tables.dense[name])
    for given, relation, _ in TRIPLES:
        (found,) = scores(interaction, tables, (given, relation, TAIL))
        state = network(torch.cat([tables.entities[given], tables.relations[relation]]))
        torch.testing.assert_close(found, torch.stack([state @ x for x in tables.entities]))


@pytest.mark.parametrize(("name", "formula"), [("transe", transe), ("rotate", rotate)])
def test_a_reciprocal_distance_asks_for_the_head_as_for_the_tail_of_another_relation(
    name: InteractionName, formula: Formula
) -> None:
    interaction = interaction_of(name, local=LocalSettings(reciprocal=True))
    tables = tables_of(interaction)
    e, r = tables.entities, tables.relations
    assert len(r) == 2 * RELATIONS
    (found,) = scores(interaction, tables, (4, RELATIONS + 1, HEAD))
    expected = torch.stack([formula(e[4], r[RELATIONS + 1], e[x]) for x in range(ENTITIES)])
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", CLASSIC)
def test_a_batch_scores_as_its_queries_one_by_one(name: str) -> None:
    interaction = CLASSIC[name]()
    tables = tables_of(interaction)
    together = scores(interaction, tables, *EVERY)
    alone = torch.cat([scores(interaction, tables, row) for row in EVERY])
    assert together.shape == (len(EVERY), ENTITIES)
    torch.testing.assert_close(together, alone, rtol=1e-12, atol=1e-12)


def dot(q: Tensor, c: Tensor) -> Tensor:
    return (q * c).sum()


def manhattan(q: Tensor, c: Tensor) -> Tensor:
    return -(q - c).abs().sum()


def moduli(q: Tensor, c: Tensor) -> Tensor:
    return -(as_complex(q) - as_complex(c)).abs().sum()


COMPARED = {"transe": manhattan, "rotate": moduli, "distmult": dot, "complex": dot, "mlp": dot}


@pytest.mark.parametrize("name", CLASSIC)
@pytest.mark.parametrize("count", [0, 1, 70, 130])
def test_compare_meets_every_query_with_every_candidate(name: str, count: int) -> None:
    generator = torch.Generator().manual_seed(0)
    query = torch.randn(count, DIM, generator=generator, dtype=torch.float64)
    candidates = torch.randn(5, DIM, generator=generator, dtype=torch.float64)
    found = CLASSIC[name]().compare(query, candidates)
    assert found.shape == (count, 5)
    for i in range(count):
        expected = torch.stack([COMPARED[name](query[i], c) for c in candidates])
        torch.testing.assert_close(found[i], expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", CLASSIC)
def test_every_table_gets_a_finite_gradient(name: str) -> None:
    interaction = CLASSIC[name]()
    tables = tables_of(interaction)
    if interaction.comparison.distance:
        # An exact match, where a distance has a kink.
        with torch.no_grad():
            tables.relations[0] = 0
            tables.entities[1] = tables.entities[0]
    scores(interaction, tables, *EVERY).square().sum().backward()
    for tensor in (tables.entities, tables.relations, *tables.dense.values()):
        assert tensor.grad is not None
        assert torch.isfinite(tensor.grad).all()
        assert tensor.grad.abs().sum() > 0


@pytest.mark.parametrize("name", CLASSIC)
def test_fresh_relations_have_the_width_that_queries_need(name: str) -> None:
    interaction = CLASSIC[name]()
    fresh = interaction.init_relations(200, DIM, 0.1, torch.Generator().manual_seed(0))
    assert fresh.shape == (200, interaction.relation_width(DIM))
    bound = torch.pi / RADIANS if name == "rotate" else 0.1
    assert 0.9 * bound < fresh.abs().max() <= bound
    assert abs(fresh.mean()) < 0.1 * bound


def test_an_unknown_interaction_or_a_llama_without_scorer_is_refused() -> None:
    with pytest.raises(ValueError, match="needs a scorer"):
        interaction_of("llama")


def test_dropout_keeps_the_mean_and_repeats_with_its_seed() -> None:
    x = torch.full((400, 400), 3.0)
    first, again, other = (Dropout(0.4, torch.Generator().manual_seed(seed))(x) for seed in (0, 0, 1))
    assert set(first.unique().tolist()) == {0.0, 5.0}
    assert first.mean() == pytest.approx(3.0, abs=0.03)
    assert (first == 0).float().mean() == pytest.approx(0.4, abs=0.01)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_no_dropout_is_no_change() -> None:
    x = torch.randn(5)
    assert Dropout(0.0)(x) is x


def test_dropout_falls_on_the_given_rows_and_not_on_the_candidates() -> None:
    interaction = interaction_of("distmult")
    tables = tables_of(interaction)
    asked = queries((0, 0, TAIL))
    dropped = Dropout(0.5, torch.Generator().manual_seed(0))
    state = interaction.query(tables, batch(asked, dropped))
    generator = torch.Generator().manual_seed(0)
    keep = [torch.rand(1, DIM, generator=generator) >= 0.5 for _ in range(2)]
    assert 0 < sum(int(k.sum()) for k in keep) < 2 * DIM
    torch.testing.assert_close(state, tables.entities[:1] * keep[0] * 2 * (tables.relations[:1] * keep[1] * 2))
