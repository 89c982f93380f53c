import numpy as np
import pytest

from protocol.trainings import Sides, TrainingSettings
from trainer.graph import Graph
from trainer.interactions import interaction_of
from trainer.local import Trained, fresh_model, train_alone, valid_mrr
from trainer.model import Model

from .support import random_graph, small_settings

DISTMULT = interaction_of("distmult")


def run(graph: Graph, settings: TrainingSettings, seed: int = 0) -> tuple[Trained, list[str]]:
    said: list[str] = []
    return train_alone(graph, DISTMULT, settings, seed, said.append), said


def scripted(monkeypatch: pytest.MonkeyPatch, mrrs: list[float]) -> list[Model]:
    """Validation answers these, one after the other; returns the models that were validated, as they were."""
    seen: list[Model] = []

    def validate(model: Model, graph: Graph, sides: Sides, tolerance: float) -> float:
        seen.append(Model.of_state(DISTMULT, model.state()))
        return mrrs[len(seen) - 1]

    monkeypatch.setattr("trainer.local.valid_mrr", validate)
    return seen


def test_it_learns_a_real_graph_far_better_than_chance(umls: Graph) -> None:
    settings = small_settings("distmult", dim=32, rounds=10, evaluate_every=5, local={"learning_rate": 0.02})
    trained, _ = run(umls, settings)
    fresh = fresh_model(umls, DISTMULT, settings, seed=0)
    assert valid_mrr(fresh, umls, "both") < 0.1
    assert trained.valid_mrr > 0.5


def test_the_state_is_the_one_that_had_the_stated_mrr(small: Graph) -> None:
    settings = small_settings("distmult", rounds=12, evaluate_every=2, patience=9, local={"learning_rate": 0.1})
    trained, _ = run(small, settings)
    assert valid_mrr(Model.of_state(DISTMULT, trained.state), small, "both") == trained.valid_mrr


def test_validation_ranks_with_the_training_s_tolerance(small: Graph) -> None:
    """Where everything is level, a model's MRR is that of chance, whatever it learns."""
    settings = small_settings("distmult", rounds=4, evaluate_every=2, tie_tolerance=0.999, local={"learning_rate": 0.1})
    trained, _ = run(small, settings)
    model = Model.of_state(DISTMULT, trained.state)
    assert trained.valid_mrr == valid_mrr(model, small, "both", 0.999) != valid_mrr(model, small, "both")


def test_the_best_by_validation_is_returned_not_the_last(small: Graph, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = scripted(monkeypatch, [0.1, 0.5, 0.3, 0.5])
    trained, _ = run(small, small_settings("distmult", rounds=8, evaluate_every=2, patience=9))
    assert (trained.epochs, trained.valid_mrr) == (4, 0.5)
    np.testing.assert_array_equal(trained.state["entities"], seen[1].state()["entities"])
    assert not np.array_equal(trained.state["entities"], seen[3].state()["entities"])


def test_patience_ends_the_training(small: Graph, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = scripted(monkeypatch, [0.1, 0.2, 0.1, 0.2, 0.9, 0.9])
    trained, said = run(small, small_settings("distmult", rounds=100, evaluate_every=1, patience=2))
    assert len(seen) == len(said[:-1]) == 4
    assert said[-1] == "epoch 4 is the last, as 2 evaluations on end were not better"
    assert trained.valid_mrr == 0.2


def test_a_local_epoch_counts_as_one_and_the_last_one_is_validated(
    small: Graph, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = scripted(monkeypatch, [0.1, 0.2, 0.3])
    settings = small_settings("distmult", rounds=5, evaluate_every=2, patience=9, local={"local_epochs": 3})
    trained, _ = run(small, settings)
    # 15 epochs, validated after 6, 12 and 15.
    assert len(seen) == 3
    assert trained.epochs == 15


def test_without_validation_triples_the_last_model_is_returned(small: Graph) -> None:
    graph = Graph.from_names({"train": small.named("train")})
    trained, _ = run(graph, small_settings("distmult", rounds=7, evaluate_every=2, patience=1))
    assert trained.epochs == 7
    assert np.isnan(trained.valid_mrr)


def test_the_same_seed_trains_the_same_and_another_does_not(small: Graph) -> None:
    settings = small_settings("distmult", rounds=2)
    first, again, other = (run(small, settings, seed)[0].state for seed in (1, 1, 2))
    assert all(first[name].tobytes() == again[name].tobytes() for name in first)
    assert all(first[name].tobytes() != other[name].tobytes() for name in first)


def test_a_fresh_model_has_the_scales_that_the_training_fixes() -> None:
    graph = random_graph(1, entities=40, relations=9, triples=400)
    settings = small_settings("mlp", dim=64, entity_init=0.3)
    shapes = {name: tuple(dense.shape) for name, dense in settings.dense.items()}
    model = fresh_model(graph, interaction_of("mlp"), settings, seed=0)
    assert model.entities.shape == (len(graph.entities), 64)
    assert 0.29 < model.entities.abs().max() <= 0.3
    for name, tensor in model.tables.dense.items():
        assert tensor.shape == shapes[name]
        assert 0.9 * settings.dense[name].init <= tensor.abs().max() <= settings.dense[name].init
