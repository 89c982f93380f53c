import numpy as np
import pytest
import torch

from protocol.trainings import InteractionName
from trainer.answers import Answers
from trainer.graph import Graph
from trainer.interactions import interaction_of
from trainer.local import fresh_model
from trainer.model import Model
from trainer.training import Trainer, TrainingDiverged, snapshot_state

from .support import small_settings


def trained(graph: Graph, name: InteractionName, seed: int, epochs: int, **local: object) -> tuple[Model, list[float]]:
    settings = small_settings(name, local=local)
    model = fresh_model(graph, interaction_of(name, local=settings.local), settings, seed=0)
    trainer = Trainer(model, Answers.of(graph.train, settings.local.sides), settings.local, seed)
    return model, [trainer.epoch(done=0.0) for _ in range(epochs)]


@pytest.mark.parametrize("loss", ["cross_entropy", "self_adversarial"])
def test_the_same_seed_makes_the_same_bytes_and_another_does_not(small: Graph, loss: str) -> None:
    runs = [trained(small, "mlp", seed, 3, dropout=0.2, loss=loss, negatives=4) for seed in (4, 4, 5)]
    first, again, other = ({name: array.tobytes() for name, array in model.state().items()} for model, _ in runs)
    assert first == again
    assert all(first[name] != other[name] for name in first)


@pytest.mark.parametrize("name", ["transe", "complex", "mlp"])
def test_the_loss_falls_on_a_real_graph(umls: Graph, name: InteractionName) -> None:
    _, losses = trained(umls, name, 0, 8, learning_rate=1e-2)
    assert losses[-1] < 0.8 * losses[0]


@pytest.mark.parametrize("name", ["transe", "distmult", "rotate"])
@pytest.mark.parametrize(
    "kind",
    [
        {"loss": "cross_entropy"},
        {"loss": "cross_entropy", "reciprocal": True},
        {"loss": "self_adversarial", "sampling": "own"},
        {"loss": "self_adversarial", "sides": "tail"},
        {"loss": "margin_ranking", "sampling": "shared", "optimizer": "sparse_adam"},
    ],
)
def test_every_kind_of_training_learns(small: Graph, name: InteractionName, kind: dict[str, object]) -> None:
    model, losses = trained(small, name, 0, 30, learning_rate=0.05, negatives=8, margin=2.0, **kind)
    assert losses[-1] < 0.7 * losses[0]
    assert all(np.isfinite(array).all() for array in model.state().values())


def test_training_puts_true_answers_above_others(small: Graph) -> None:
    model, _ = trained(small, "complex", 0, 60, learning_rate=0.05)
    answers = Answers.of(small.train)
    scores = model.rank_scores(answers.queries)
    row, answer = answers.rows(np.arange(len(answers)))
    true = np.zeros(scores.shape, dtype=bool)
    true[row, answer] = True
    assert scores[true].min() > np.median(scores[~true])
    assert scores[true].mean() > scores[~true].mean() + 3


def test_every_query_is_seen_once_an_epoch_in_batches_of_like_size(small: Graph) -> None:
    answers, seen = Answers.of(small.train), []

    class Watching(Trainer):
        def _step(self, rows: torch.Tensor) -> float:
            seen.append(rows.tolist())
            return 1.0

    settings = small_settings("transe", local={"batch_size": 10})
    model = fresh_model(small, interaction_of("transe"), settings, 0)
    assert Watching(model, answers, settings.local, 0).epoch(done=0.0) == 1.0
    order = [row for rows in seen for row in rows]
    assert sorted(order) == list(range(len(answers)))
    assert order != sorted(order)
    assert max(map(len, seen)) <= 10
    assert max(map(len, seen)) - min(map(len, seen)) <= 1


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_loss_that_is_no_number_ends_the_training_before_it_spoils_the_model(small: Graph, value: float) -> None:
    settings = small_settings("distmult")
    model = fresh_model(small, interaction_of("distmult"), settings, 0)
    with torch.no_grad():
        model.entities[0] = value
    before = model.state()
    with pytest.raises(TrainingDiverged, match="lower the learning rate"):
        Trainer(model, Answers.of(small.train), settings.local, 0).epoch(done=0.0)
    np.testing.assert_array_equal(model.state()["relations"], before["relations"])


def test_a_decaying_rate_moves_less_towards_the_end(small: Graph) -> None:
    def moved(done: float, linear_decay: bool) -> float:
        settings = small_settings("distmult", local={"linear_decay": linear_decay})
        model = fresh_model(small, interaction_of("distmult"), settings, 0)
        before = model.state()["entities"]
        Trainer(model, Answers.of(small.train), settings.local, 0).epoch(done)
        return float(np.abs(model.state()["entities"] - before).max())

    assert moved(0.0, True) == moved(0.0, False) == moved(0.9, False)
    # Adam's first steps are as long as its rate.
    np.testing.assert_allclose(moved(0.9, True), 0.1 * moved(0.0, True), rtol=0.05)


@pytest.mark.parametrize(
    "kind",
    [
        {"loss": "cross_entropy"},
        {"loss": "self_adversarial", "sampling": "own"},
        {"loss": "self_adversarial", "sampling": "shared", "optimizer": "sparse_adam"},
    ],
)
@pytest.mark.parametrize("name", ["transe", "distmult", "mlp"])
@pytest.mark.parametrize("cut", [1, 2, 4])
def test_a_snapshot_goes_on_byte_for_byte(
    small: Graph, name: InteractionName, kind: dict[str, object], cut: int
) -> None:
    local = {"dropout": 0.3, "negatives": 4, "batch_size": 8, "linear_decay": True} | kind
    settings, answers = small_settings(name, local=local), Answers.of(small.train)
    whole = Trainer(fresh_model(small, interaction_of(name), settings, seed=0), answers, settings.local, seed=7)
    for epoch in range(cut):
        whole.epoch(epoch / 5)
    arrays = whole.snapshot()
    again = Trainer(Model.of_state(interaction_of(name), snapshot_state(arrays)), answers, settings.local, seed=7)
    again.restore(arrays)
    assert [whole.epoch(e / 5) for e in range(cut, 5)] == [again.epoch(e / 5) for e in range(cut, 5)]
    for (key, one), (other_key, other) in zip(whole.snapshot().items(), again.snapshot().items(), strict=True):
        assert key == other_key
        assert one.tobytes() == other.tobytes()


def test_a_snapshot_does_not_change_with_later_training(small: Graph) -> None:
    settings = small_settings("mlp", local={"dropout": 0.3})
    trainer = Trainer(
        fresh_model(small, interaction_of("mlp"), settings, 0), Answers.of(small.train), settings.local, 0
    )
    trainer.epoch(0.0)
    arrays = trainer.snapshot()
    before = {name: array.tobytes() for name, array in arrays.items()}
    trainer.epoch(0.0)
    assert {name: array.tobytes() for name, array in arrays.items()} == before
    assert all(array.tobytes() != before[name] for name, array in trainer.snapshot().items())
