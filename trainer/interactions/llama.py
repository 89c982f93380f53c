"""The frozen LLaMA as interaction: it reads (given entity, relation) as vectors and is asked for the rest.

The adapter turns each entity and relation row into k vectors of the model's hidden size; the scorer returns the hidden
state after the prompt; the adapter turns that back into a query vector of `dim` columns. One prompt a unique query
scores every candidate, since candidates meet the query as dot products here, at the client.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from protocol.trainings import Dense, LocalSettings
from trainer.interactions.base import Batch, QueryInteraction, Tables
from trainer.interactions.llama_adapter import adapter, query_vectors
from trainer.interactions.llama_calls import EncoderCall, FrozenModel
from trainer.interactions.llama_slots import Filler
from trainer.prompting import Prompting


class UniqueRows:
    """A batch whose queries point into the unique entity and relation rows that occur in it."""

    def __init__(self, batch: Batch) -> None:
        self.entity_rows, self.given = torch.unique(batch.given, return_inverse=True)
        self.relation_rows, self.relation = torch.unique(batch.relation, return_inverse=True)


class RemoteEncode(torch.autograd.Function):
    """`/encode` in the forward pass, `/encode/gradient` in the backward pass: autograd that goes on over HTTP."""

    @staticmethod
    def forward(ctx: Any, entities: Tensor, relations: Tensor, call: EncoderCall, model: FrozenModel) -> Tensor:
        """States [q, hidden] of a call with entities [n, k, hidden] and relations [m, k, hidden]."""
        ctx.call, ctx.model = call, model
        return torch.from_numpy(model.encode(call, keep=any(ctx.needs_input_grad))).to(entities.device)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients with respect to the vectors that were sent."""
        found = ctx.model.gradient(ctx.call, grads[0].cpu().contiguous().numpy())
        entities, relations = (torch.from_numpy(gradient).to(grads[0].device) for gradient in found)
        return entities, relations, None, None


class Llama(QueryInteraction):
    """q = W_state LLaMA(prompt(W_entity e, W_relation r)), score = q . candidate.

    States between layers have a scale of their own, and are normed here (RMSNorm without weights); those after the last
    layer have passed through the model's own norm.
    """

    reciprocal = True

    def __init__(self, model: FrozenModel, local: LocalSettings, prompting: Prompting | None = None) -> None:
        self.model, self.local, self.prompting = model, local, prompting or Prompting()
        self.texts = self.prompting.texts
        self.filler = Filler(model.hidden, self.texts)

    def dense(self, dim: int, settings: LocalSettings) -> dict[str, Dense]:
        """The adapter."""
        return adapter(dim, self.model.hidden, settings)

    def query(self, tables: Tables, batch: Batch) -> Tensor:
        """States, normed and adapted."""
        states = self.states(tables, batch)
        if self.local.layer != "last":
            states = F.rms_norm(states, states.shape[-1:])
        return query_vectors(tables, batch.dropout(states))

    def states(self, tables: Tables, batch: Batch) -> Tensor:
        """States [q, hidden]. Each unique row is adapted and sent once; queries that share it share its gradient."""
        assert self.local.layer != "none"
        unique = UniqueRows(batch)
        entities, of_entities = self.filler.entities(tables, unique.entity_rows, batch.dropout)
        relations, of_relations = self.filler.relations(tables, unique.relation_rows, batch.dropout)
        queries = torch.stack([unique.given, unique.relation], dim=1).to("cpu", torch.int32).numpy()
        sides = batch.side.to("cpu", torch.uint8).numpy()
        call = EncoderCall(of_entities, of_relations, queries, sides, self.local.layer, self.local.prompts)
        states: Tensor = RemoteEncode.apply(entities, relations, call, self.model)
        return states
