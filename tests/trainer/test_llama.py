import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from protocol.encoding import Layer
from protocol.messages import HEAD, TAIL
from protocol.trainings import Dense, LocalSettings, ScorerIdentity
from trainer.answers import Answers
from trainer.graph import Graph
from trainer.interactions import Dropout, Llama, Tables
from trainer.local import fresh_model
from trainer.presets import training_settings
from trainer.training import Trainer

from .encoders import HIDDEN, TinyEncoder
from .support import batch, float64_tables, queries

DIM, SLOTS = 4, 3
ASKED = queries((5, 1, TAIL), (2, 0, HEAD), (5, 1, HEAD), (5, 0, TAIL), (2, 1, TAIL))
LOCAL = LocalSettings(vectors_per_slot=SLOTS)
DENSE = Llama(TinyEncoder(SLOTS), LOCAL).dense(DIM, LOCAL)


def tables_of(dtype: torch.dtype) -> Tables:
    made = float64_tables(8, 4, DIM, DIM, DENSE)

    def cast(x: Tensor) -> Tensor:
        return (x.detach() / 2).to(dtype).requires_grad_()

    return Tables(cast(made.entities), cast(made.relations), {n: cast(t) for n, t in made.dense.items()})


def plain(tables: Tables, encoder: TinyEncoder, *, normed: bool) -> Tensor:
    """The same model without HTTP, unique rows or hand-made gradients."""

    def slots(rows: Tensor, weight: Tensor) -> Tensor:
        return (rows @ weight.T).reshape(len(rows), SLOTS, HIDDEN)

    every = slots(tables.entities, tables.dense["adapter.entity"])
    relations = slots(tables.relations, tables.dense["adapter.relation"])
    asked = torch.from_numpy(np.stack([ASKED.given, ASKED.relation], axis=1))
    states = encoder.states(every, relations, asked, torch.from_numpy(ASKED.side))
    if normed:
        states = states / states.pow(2).mean(1, keepdim=True).sqrt()
    return states @ tables.dense["adapter.state"].T


def leaves(tables: Tables) -> dict[str, Tensor]:
    return {"entities": tables.entities, "relations": tables.relations, **tables.dense}


@pytest.mark.parametrize("layer", ["last", "middle", 1])
def test_scores_and_gradients_through_the_scorer_are_those_of_plain_autograd(layer: Layer) -> None:
    encoder = TinyEncoder(SLOTS)
    llama, ours, reference = (
        Llama(encoder, LOCAL.model_copy(update={"layer": layer})),
        tables_of(torch.float32),
        tables_of(torch.float64),
    )
    found = llama.compare(llama.query(ours, batch(ASKED)), ours.entities)
    expected = plain(reference, encoder, normed=layer != "last") @ reference.entities.T
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-5)
    weights = torch.randn(found.shape, generator=torch.Generator().manual_seed(2))
    (found * weights).sum().backward()
    (expected * weights).sum().backward()
    for name, tensor in leaves(ours).items():
        wanted = leaves(reference)[name].grad
        assert tensor.grad is not None
        assert wanted is not None
        assert wanted.abs().max() > 1e-3
        torch.testing.assert_close(tensor.grad.double(), wanted, rtol=1e-4, atol=1e-5)


def test_every_row_is_sent_once_and_queries_point_at_it() -> None:
    encoder = TinyEncoder(SLOTS)
    Llama(encoder, LOCAL).query(tables_of(torch.float32), batch(ASKED))
    (call,) = encoder.calls
    every = F.linear(tables_of(torch.float32).entities, tables_of(torch.float32).dense["adapter.entity"])
    np.testing.assert_allclose(call.entities.vectors.reshape(2, -1), every[[2, 5]].detach().numpy(), atol=1e-6)
    assert call.entities.vectors.shape == call.relations.vectors.shape == (2, SLOTS, HIDDEN)
    assert call.queries.dtype == np.int32
    assert call.queries.tolist() == [[1, 1], [0, 0], [1, 1], [1, 0], [0, 1]]
    assert call.sides.dtype == np.uint8
    assert call.sides.tolist() == ASKED.side.tolist()


def test_the_gradient_is_asked_for_with_the_vectors_that_were_encoded() -> None:
    encoder = TinyEncoder(SLOTS)
    llama, tables = Llama(encoder, LOCAL), tables_of(torch.float32)
    state = llama.query(tables, batch(ASKED, Dropout(0.5, torch.Generator().manual_seed(0))))
    state.sum().backward()
    forward, backward = encoder.calls
    np.testing.assert_array_equal(forward.entities.vectors, backward.entities.vectors)
    np.testing.assert_array_equal(forward.queries, backward.queries)


def test_no_gradient_is_asked_for_where_none_is_needed() -> None:
    encoder = TinyEncoder(SLOTS)
    with torch.no_grad():
        Llama(encoder, LOCAL).query(tables_of(torch.float32), batch(ASKED))
    assert len(encoder.calls) == 1


def test_the_adapter_has_the_shapes_of_the_model_and_the_slots() -> None:
    assert {name: dense.shape for name, dense in DENSE.items()} == {
        "adapter.entity": [SLOTS * HIDDEN, DIM],
        "adapter.relation": [SLOTS * HIDDEN, DIM],
        "adapter.state": [DIM, HIDDEN],
    }
    assert all(isinstance(dense, Dense) and dense.init > 0 for dense in DENSE.values())


@pytest.mark.parametrize("loss", ["cross_entropy", "self_adversarial", "margin_ranking"])
def test_it_trains_on_what_the_scorer_returns(small: Graph, loss: str) -> None:
    encoder = TinyEncoder(SLOTS)
    identity = ScorerIdentity(model="m", revision="r", dtype="float32", query_hash="q", hidden=HIDDEN)
    local = LocalSettings(loss=loss, learning_rate=0.02, vectors_per_slot=SLOTS, negatives=8, margin=1.0)
    settings = training_settings("llama", encoder, identity, dim=8, local=local)
    model = fresh_model(small, Llama(encoder, LOCAL), settings, seed=0)
    before = model.state()
    trainer = Trainer(model, Answers.of(small.train), local, seed=0)
    losses = [trainer.epoch(done=0.0) for _ in range(80)]
    assert losses[-1] < 0.9 * losses[0]
    for name, array in model.state().items():
        assert not np.array_equal(array, before[name]), name
