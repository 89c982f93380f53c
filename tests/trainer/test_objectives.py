"""The losses of a batch against the same written out one pair at a time, in float64."""

import numpy as np
import pytest
import torch
from torch import Tensor

from protocol.trainings import InteractionName, LocalSettings
from trainer.answers import Answers
from trainer.graph import Graph
from trainer.interactions import interaction_of
from trainer.local import fresh_model
from trainer.losses import cross_entropy
from trainer.model import Model
from trainer.negatives import Sampler
from trainer.objectives import SHARED_BY, objective_of

from .support import small_settings

DISTANCES = ("transe", "rotate")


def model_of(graph: Graph, name: InteractionName) -> Model:
    return fresh_model(graph, interaction_of(name), small_settings(name, entity_init=1.0), seed=3).double()


def loss_of(model: Model, answers: Answers, settings: LocalSettings, items: np.ndarray) -> Tensor:
    return objective_of(model, answers, settings, torch.Generator().manual_seed(5)).loss(items)


def pairs_of(answers: Answers) -> list[tuple[int, int]]:
    row, entity = answers.rows(np.arange(len(answers)))
    return list(zip(row.tolist(), entity.tolist(), strict=True))


def drawn(answers: Answers, entities: int, settings: LocalSettings, rows: np.ndarray) -> list[list[int]]:
    """The negatives of each pair, drawn as the objective draws them; true answers are not among them."""
    sampler, generator = Sampler(answers, entities), torch.Generator().manual_seed(5)
    if settings.sampling == "own":
        return sampler.own(rows, settings.negatives, generator).tolist()
    negatives = []
    for start in range(0, len(rows), SHARED_BY):
        pool, known = sampler.shared(rows[start : start + SHARED_BY], settings.negatives, generator)
        negatives += [pool[~row].tolist() for row in known]
    return negatives


@pytest.mark.parametrize("name", ["transe", "rotate", "complex", "mlp"])
@pytest.mark.parametrize("sampling", ["own", "shared"])
def test_self_adversarial_is_that_of_each_pair_with_its_negatives(
    umls: Graph, name: InteractionName, sampling: str
) -> None:
    answers, model = Answers.of(umls.train), model_of(umls, name)
    settings = LocalSettings(loss="self_adversarial", negatives=20, margin=3.0, temperature=0.7, sampling=sampling)
    items = np.random.default_rng(0).permutation(len(answers.entities))[: 2 * SHARED_BY + 11]
    found = loss_of(model, answers, settings, items)
    pairs = [pairs_of(answers)[item] for item in items]
    rows = np.array([row for row, _ in pairs])
    scores, margin = model.scores(answers.queries[rows]).detach(), 3.0 if name in DISTANCES else 0.0
    losses = []
    for score, (_, answer), negatives in zip(scores, pairs, drawn(answers, 135, settings, rows), strict=True):
        rivals = score[negatives] + margin
        weights = torch.softmax(0.7 * rivals, dim=0)
        positive = torch.nn.functional.softplus(-(score[answer] + margin))
        losses.append((positive + (weights * torch.nn.functional.softplus(rivals)).sum()) / 2)
    assert found.item() == pytest.approx(torch.stack(losses).mean().item(), rel=1e-9)


@pytest.mark.parametrize("sampling", ["own", "shared"])
def test_margin_ranking_is_without_the_offset_of_distances(umls: Graph, sampling: str) -> None:
    answers, model = Answers.of(umls.train), model_of(umls, "transe")
    settings = LocalSettings(loss="margin_ranking", negatives=16, margin=2.0, sampling=sampling)
    items = np.arange(0, len(answers.entities), 31)
    rows = np.array([pairs_of(answers)[item][0] for item in items])
    scores, total, count = model.scores(answers.queries[rows]).detach(), 0.0, 0
    for place, (item, negatives) in enumerate(zip(items, drawn(answers, 135, settings, rows), strict=True)):
        positive = scores[place, pairs_of(answers)[item][1]]
        total += torch.relu(2.0 - positive + scores[place, negatives]).sum().item()
        count += settings.negatives
    assert loss_of(model, answers, settings, items).item() == pytest.approx(total / count, rel=1e-9)


def test_cross_entropy_takes_unique_queries_with_all_their_answers(umls: Graph) -> None:
    answers, model = Answers.of(umls.train), model_of(umls, "complex")
    settings = LocalSettings(loss="cross_entropy", label_smoothing=0.1)
    objective = objective_of(model, answers, settings, torch.Generator())
    assert objective.items == len(answers) < len(answers.entities)
    items = np.array([5, 0, 60])
    row, answer = (torch.from_numpy(column) for column in answers.rows(items))
    assert len(row) > 3
    expected = cross_entropy(model.scores(answers.queries[items]), row, answer, 0.1)
    torch.testing.assert_close(objective.loss(items), expected)


@pytest.mark.parametrize("name", ["transe", "complex", "mlp"])
@pytest.mark.parametrize("sampling", ["own", "shared"])
def test_row_sparse_gradients_are_the_dense_ones(umls: Graph, name: InteractionName, sampling: str) -> None:
    answers, items = Answers.of(umls.train), np.arange(40)
    settings = LocalSettings(loss="self_adversarial", negatives=6, sampling=sampling, optimizer="sparse_adam")
    made = []
    for sparse in (False, True):
        model = model_of(umls, name)
        objective = objective_of(model, answers, settings, torch.Generator().manual_seed(5))
        assert model.sparse
        model.sparse = sparse
        objective.loss(items).backward()
        for table in (model.entities, model.relations):
            assert table.grad is not None
            assert table.grad.is_sparse == sparse
        made.append([p.grad.to_dense() for p in model.parameters() if p.grad is not None])
    assert len(made[0]) == len(list(model_of(umls, name).parameters()))
    torch.testing.assert_close(made[1], made[0])


def test_tails_alone_are_learnt_where_the_settings_say_so(umls: Graph) -> None:
    both, tails = Answers.of(umls.train), Answers.of(umls.train, "tail")
    assert set(tails.queries.side.tolist()) == {0}
    assert len(tails.entities) == len(umls.train) == len(both.entities) // 2
