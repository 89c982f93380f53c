"""The frozen LLaMA as interaction: it reads (given entity, relation) as vectors and is asked for the rest.

The adapter turns each entity and relation row into k vectors of the model's hidden size; the scorer returns the hidden
state after the prompt; the adapter turns that back into a query vector of `dim` columns. One prompt a unique query
scores every candidate, since candidates meet the query as dot products here, at the client.
"""

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from protocol.encoding import Layer
from protocol.trainings import Dense, LocalSettings
from trainer.interactions.base import Batch, Interaction, Tables

Floats = NDArray[np.float32]


class Encoder(Protocol):
    """A frozen model that encodes queries: the scorer's `/encode` and `/encode/gradient`.

    States are float32 [q, hidden]; gradients have the shapes of the vectors in the call.
    """

    hidden: int

    def encode(self, call: "EncoderCall", keep: bool = False) -> Floats:
        """States of the queries; `keep` says that their gradient is asked for next."""

    def gradient(self, call: "EncoderCall", grad_states: Floats) -> tuple[Floats, Floats]:
        """d(loss)/d(entities) and d(loss)/d(relations) for given d(loss)/d(states)."""


@dataclass(frozen=True)
class EncoderCall:
    """Queries as they go to the scorer.

    Attributes:
        entities: float32 [n, k, hidden].
        relations: float32 [m, k, hidden].
        queries: int32 [q, 2], rows of the given entity and of the relation.
        sides: uint8 [q].
        entity_rows: int64 [n], the rows of the client's table that the entities' vectors were made of.
        relation_rows: int64 [m], the same for the relations.
        layer: After which layer of the model the states are read.
    """

    entities: Floats
    relations: Floats
    queries: NDArray[np.int32]
    sides: NDArray[np.uint8]
    entity_rows: NDArray[np.int64]
    relation_rows: NDArray[np.int64]
    layer: Layer = "last"

    @classmethod
    def of(cls, entities: Tensor, relations: Tensor, batch: "UniqueRows", layer: Layer) -> "EncoderCall":
        """The call of a whole batch."""
        return cls(
            entities.detach().cpu().numpy(),
            relations.detach().cpu().numpy(),
            torch.stack([batch.given, batch.relation], dim=1).to("cpu", torch.int32).numpy(),
            batch.side.to("cpu", torch.uint8).numpy(),
            batch.entity_rows.cpu().numpy(),
            batch.relation_rows.cpu().numpy(),
            layer,
        )

    def part(self, queries: slice) -> tuple["EncoderCall", NDArray[np.integer], NDArray[np.integer]]:
        """The call of some of the queries, and the rows of `entities` and `relations` that it holds."""
        chosen = self.queries[queries]
        entities, given = np.unique(chosen[:, 0], return_inverse=True)
        relations, relation = np.unique(chosen[:, 1], return_inverse=True)
        part = EncoderCall(
            self.entities[entities],
            self.relations[relations],
            np.stack([given, relation], axis=1).astype(np.int32),
            self.sides[queries],
            self.entity_rows[entities],
            self.relation_rows[relations],
            self.layer,
        )
        return part, entities, relations


class UniqueRows:
    """A batch whose queries point into the unique entity and relation rows that occur in it."""

    def __init__(self, batch: Batch) -> None:
        self.entity_rows, self.given = torch.unique(batch.given, return_inverse=True)
        self.relation_rows, self.relation = torch.unique(batch.relation, return_inverse=True)
        self.side = batch.side


class RemoteEncode(torch.autograd.Function):
    """`/encode` in the forward pass, `/encode/gradient` in the backward pass: autograd that goes on over HTTP."""

    @staticmethod
    def forward(
        ctx: Any, entities: Tensor, relations: Tensor, batch: UniqueRows, encoder: Encoder, layer: Layer
    ) -> Tensor:
        """States [q, hidden] of entities [n, k, hidden] and relations [m, k, hidden]."""
        ctx.call, ctx.encoder = EncoderCall.of(entities, relations, batch, layer), encoder
        return torch.from_numpy(encoder.encode(ctx.call, keep=any(ctx.needs_input_grad))).to(entities.device)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients with respect to the vectors that were sent."""
        found = ctx.encoder.gradient(ctx.call, grads[0].cpu().contiguous().numpy())
        entities, relations = (torch.from_numpy(gradient).to(grads[0].device) for gradient in found)
        return entities, relations, None, None, None


class Llama(Interaction):
    """q = W_state LLaMA(prompt(W_entity e, W_relation r)), score = q . candidate.

    States between layers have a scale of their own, and are normed here (RMSNorm without weights); those after the last
    layer have passed through the model's own norm.
    """

    reciprocal = True

    def __init__(self, encoder: Encoder, layer: Layer = "last") -> None:
        self.encoder, self.layer = encoder, layer

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
        entities = self._slots(batch.dropout(tables.entity_rows(unique.entity_rows)), tables.dense["adapter.entity"])
        relations = self._slots(
            batch.dropout(tables.relation_rows(unique.relation_rows)), tables.dense["adapter.relation"]
        )
        states: Tensor = RemoteEncode.apply(entities, relations, unique, self.encoder, self.layer)
        if self.layer != "last":
            states = F.rms_norm(states, states.shape[-1:])
        return F.linear(batch.dropout(states), tables.dense["adapter.state"])

    def _slots(self, rows: Tensor, weight: Tensor) -> Tensor:
        return F.linear(rows, weight).view(len(rows), -1, self.encoder.hidden)
