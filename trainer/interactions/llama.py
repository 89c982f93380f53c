"""The frozen LLaMA as interaction: it reads (given entity, relation) as vectors and is asked for the rest.

The adapter turns each entity and relation row into k vectors of the model's hidden size; the scorer returns the hidden
state after the prompt; the adapter turns that back into a query vector of `dim` columns. One prompt a unique query
scores every candidate, since candidates meet the query as dot products here, at the client.
"""

from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from protocol.federation import Dense, LocalSettings
from trainer.interactions.base import Batch, Interaction, Tables

Floats = NDArray[np.float32]


class Encoder(Protocol):
    """A frozen model that encodes queries: the scorer's `/encode` and `/encode/gradient`.

    Shapes: entities [n, k, hidden], relations [m, k, hidden], queries int32 [q, 2], sides uint8 [q], states
    [q, hidden]. `entity_rows` and `relation_rows` tell which rows of the client's tables the vectors were made of.
    """

    hidden: int

    def encode(self, call: "EncoderCall") -> Floats:
        """States of the queries."""

    def gradient(self, call: "EncoderCall", grad_states: Floats) -> tuple[Floats, Floats]:
        """d(loss)/d(entities) and d(loss)/d(relations) for given d(loss)/d(states)."""


class EncoderCall:
    """One batch of unique queries, as it goes to the scorer."""

    def __init__(self, entities: Tensor, relations: Tensor, batch: "UniqueRows") -> None:
        self.entities: Floats = entities.detach().numpy()
        self.relations: Floats = relations.detach().numpy()
        self.queries = torch.stack([batch.given, batch.relation], dim=1).to(torch.int32).numpy()
        self.sides = batch.side.to(torch.uint8).numpy()
        self.entity_rows = batch.entity_rows.numpy()
        self.relation_rows = batch.relation_rows.numpy()


class UniqueRows:
    """A batch whose queries point into the unique entity and relation rows that occur in it."""

    def __init__(self, batch: Batch) -> None:
        self.entity_rows, self.given = torch.unique(batch.given, return_inverse=True)
        self.relation_rows, self.relation = torch.unique(batch.relation, return_inverse=True)
        self.side = batch.side


class RemoteEncode(torch.autograd.Function):
    """`/encode` in the forward pass, `/encode/gradient` in the backward pass: autograd that goes on over HTTP."""

    @staticmethod
    def forward(ctx: Any, entities: Tensor, relations: Tensor, batch: UniqueRows, encoder: Encoder) -> Tensor:
        """States [q, hidden] of entities [n, k, hidden] and relations [m, k, hidden]."""
        ctx.call, ctx.encoder = EncoderCall(entities, relations, batch), encoder
        return torch.from_numpy(encoder.encode(ctx.call))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients with respect to the vectors that were sent."""
        entities, relations = ctx.encoder.gradient(ctx.call, grads[0].contiguous().numpy())
        return torch.from_numpy(entities), torch.from_numpy(relations), None, None


class Llama(Interaction):
    """q = W_state LLaMA(prompt(W_entity e, W_relation r)), score = q . candidate."""

    reciprocal = True

    def __init__(self, encoder: Encoder) -> None:
        self.encoder = encoder

    def dense(self, dim: int, settings: LocalSettings) -> dict[str, Dense]:
        """The adapter, at a scale that gives vectors of the size of the model's own embeddings."""
        width = settings.vectors_per_slot * self.encoder.hidden
        return {
            "adapter.entity": Dense(shape=[width, dim], init=(3 / dim) ** 0.5),
            "adapter.relation": Dense(shape=[width, dim], init=(3 / dim) ** 0.5),
            "adapter.state": Dense(shape=[dim, self.encoder.hidden], init=(3 / self.encoder.hidden) ** 0.5),
        }

    def query(self, tables: Tables, batch: Batch) -> Tensor:
        """Each unique row is adapted and sent once; rows of the batch that share it share its gradient."""
        unique = UniqueRows(batch)
        entities = self._slots(batch.dropout(tables.entities[unique.entity_rows]), tables.dense["adapter.entity"])
        relations = self._slots(batch.dropout(tables.relations[unique.relation_rows]), tables.dense["adapter.relation"])
        states: Tensor = RemoteEncode.apply(entities, relations, unique, self.encoder)
        return F.linear(batch.dropout(states), tables.dense["adapter.state"])

    def compare(self, query: Tensor, candidates: Tensor) -> Tensor:
        """[q, n] dot products."""
        return query @ candidates.T

    def _slots(self, rows: Tensor, weight: Tensor) -> Tensor:
        return F.linear(rows, weight).view(len(rows), -1, self.encoder.hidden)
