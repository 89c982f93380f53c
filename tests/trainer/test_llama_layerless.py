"""The control of `llama` without a LLaMA, against its formula."""

import torch
from torch import Tensor

from protocol.messages import HEAD, TAIL
from protocol.trainings import LocalSettings
from trainer.interactions import interaction_of
from trainer.interactions.base import QueryInteraction

from .encoders import HIDDEN, TinyEncoder
from .support import batch, float64_tables, queries

SLOTS, DIM = 3, 4
LOCAL = LocalSettings(layer="none", vectors_per_slot=SLOTS)
ASKED = queries((5, 1, TAIL), (2, 0, HEAD), (5, 1, HEAD), (5, 0, TAIL))


def test_a_query_is_the_adapted_mean_of_its_slots_and_the_scorer_is_not_asked() -> None:
    encoder = TinyEncoder(SLOTS)
    interaction = interaction_of("llama", encoder, LOCAL)
    assert isinstance(interaction, QueryInteraction)
    tables = float64_tables(8, 4, DIM, DIM, interaction.dense(DIM, LOCAL))
    found = interaction.query(tables, batch(ASKED))

    def vectors(part: str, row: Tensor) -> Tensor:
        return (tables.dense[f"adapter.{part}"] @ row).reshape(SLOTS, HIDDEN)

    for i, (given, relation) in enumerate(zip(ASKED.given, ASKED.relation, strict=True)):
        both = [vectors("entity", tables.entities[given]), vectors("relation", tables.relations[relation])]
        mean = torch.cat(both).mean(dim=0)
        expected = tables.dense["adapter.state"] @ (mean / mean.square().mean().sqrt())
        torch.testing.assert_close(found[i], expected, rtol=1e-6, atol=1e-6)
    found.square().sum().backward()
    for tensor in (tables.entities, tables.relations, *tables.dense.values()):
        assert tensor.grad is not None
        assert tensor.grad.abs().max() > 0
    assert encoder.calls == []
