import numpy as np
import pytest
import torch

from protocol.messages import HEAD, TAIL
from protocol.trainings import InteractionName
from trainer.graph import Graph
from trainer.interactions import CLASSIC, interaction_of
from trainer.local import fresh_model
from trainer.model import Model

from .support import queries, small_settings

NAMES: list[InteractionName] = ["transe", "distmult", "complex", "rotate", "mlp"]
ASKED = queries((0, 0, TAIL), (1, 1, HEAD), (2, 2, TAIL))


def fresh(graph: Graph, name: InteractionName, seed: int = 0) -> Model:
    return fresh_model(graph, interaction_of(name), small_settings(name), seed)


def test_all_classic_interactions_are_looked_at() -> None:
    assert set(NAMES) == set(CLASSIC)


@pytest.mark.parametrize("name", NAMES)
def test_a_model_made_of_a_state_scores_the_same(small: Graph, name: InteractionName) -> None:
    model = fresh(small, name)
    again = Model.of_state(interaction_of(name), model.state())
    scores = model.rank_scores(ASKED)
    assert scores.shape == (3, len(small.entities))
    np.testing.assert_array_equal(scores, again.rank_scores(ASKED))


def test_a_state_does_not_change_with_later_training(small: Graph) -> None:
    model = fresh(small, "mlp")
    state = model.state()
    before = {name: array.copy() for name, array in state.items()}
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1)
    for name, array in state.items():
        np.testing.assert_array_equal(array, before[name])
        assert not np.array_equal(array, model.state()[name])


@pytest.mark.parametrize("name", NAMES)
def test_a_query_for_the_head_uses_the_second_row_of_a_reciprocal_relation(small: Graph, name: InteractionName) -> None:
    model = fresh(small, name)
    relations = len(small.relations)
    reciprocal = interaction_of(name).reciprocal
    assert len(model.relations) == relations * (2 if reciprocal else 1)
    before = model.rank_scores(ASKED)
    with torch.no_grad():
        model.relations[1 + relations if reciprocal else 1] += 1
    changed = (model.rank_scores(ASKED) != before).any(axis=1)
    assert changed.tolist() == [False, True, False]


def test_rank_scores_keep_no_graph(small: Graph) -> None:
    model = fresh(small, "transe")
    assert isinstance(model.rank_scores(ASKED), np.ndarray)
    assert model.scores(ASKED).requires_grad
