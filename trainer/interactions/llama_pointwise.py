"""The most direct form of `llama`: a prompt, three slots, one number. The scorer's answer is the score of the triple.

A prompt a triple is as much dearer than a prompt a query as a query has candidates. Training asks for sampled ones
alone, with the loss computed beside the model, one call a step; ranking asks for all of them, block by block.
"""

from typing import Any

import torch
from torch import Tensor

from protocol.messages import HEAD
from protocol.scoring import Loss
from protocol.trainings import Dense, LocalSettings
from trainer.interactions.base import Batch, Interaction, Tables
from trainer.interactions.llama_adapter import adapter
from trainer.interactions.llama_calls import FrozenModel, ScoreCall
from trainer.interactions.llama_slots import Filler
from trainer.prompting import Prompting

TRIPLES_AT_ONCE = 2048
"""Ranked between two words of progress; bounds the vectors that are held."""


class RemoteLoss(torch.autograd.Function):
    """`/score/gradient`: the loss in the forward pass, with the gradients that the backward pass needs."""

    @staticmethod
    def forward(
        ctx: Any, entities: Tensor, relations: Tensor, call: ScoreCall, model: FrozenModel, loss: Loss, group: int
    ) -> Tensor:
        """The loss of a call with entities [n, k, hidden] and relations [m, k, hidden], a scalar."""
        value, *gradients = model.score_gradient(call, loss, group)
        ctx.gradients = [torch.from_numpy(gradient).to(entities.device) for gradient in gradients]
        return entities.new_tensor(value)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients with respect to the vectors that were sent."""
        entities, relations = (grads[0] * gradient for gradient in ctx.gradients)
        return entities, relations, None, None, None, None


class PointwiseLlama(Interaction):
    """score = LLaMA(prompt(W_entity h, W_relation r, W_entity t)), as the readout has it.

    One template asks for both sides, so that a triple has one score, and a relation one vector.
    """

    def __init__(self, model: FrozenModel, local: LocalSettings, prompting: Prompting | None = None) -> None:
        assert local.readout != "state"
        self.readout = local.readout
        self.model, self.local, self.prompting = model, local, prompting or Prompting()
        self.texts = self.prompting.texts
        self.filler = Filler(model.hidden, self.texts)

    def dense(self, dim: int, settings: LocalSettings) -> dict[str, Dense]:
        """The adapter of slots; there is no state to be turned into anything."""
        return adapter(dim, self.model.hidden, settings)

    def scores(self, tables: Tables, batch: Batch) -> Tensor:
        """Scores of all entities, float32 [q, n], for ranking: without gradient."""
        total, found = len(batch.given) * len(tables.entities), []
        for start in range(0, total, TRIPLES_AT_ONCE):
            self.prompting.now(f"scoring {total} triples: {start} are done")
            pairs = torch.arange(start, min(start + TRIPLES_AT_ONCE, total), device=batch.given.device)
            query, candidate = pairs // len(tables.entities), pairs % len(tables.entities)
            *_, call = self._call(tables, batch, query, candidate)
            found.append(torch.from_numpy(self.model.score(call)))
        return torch.cat(found).view(len(batch.given), len(tables.entities))

    def loss(self, tables: Tables, batch: Batch, candidates: Tensor, loss: Loss) -> Tensor:
        """A loss of each query's candidates, int64 [q, m], of which the first is the true one; a scalar."""
        count, group = candidates.shape
        query = torch.arange(count, device=candidates.device).repeat_interleave(group)
        entities, relations, call = self._call(tables, batch, query, candidates.flatten())
        found: Tensor = RemoteLoss.apply(entities, relations, call, self.model, loss, group)
        return found

    def _call(self, tables: Tables, batch: Batch, query: Tensor, candidate: Tensor) -> tuple[Tensor, Tensor, ScoreCall]:
        """Vectors of entities and relations, and the call of triples: each query of int64 [t] with its candidate."""
        given, backwards = batch.given[query], batch.side[query] == HEAD
        head, tail = torch.where(backwards, candidate, given), torch.where(backwards, given, candidate)
        entity_rows, ends = torch.unique(torch.stack([head, tail]), return_inverse=True)
        relation_rows, relation = torch.unique(batch.relation[query], return_inverse=True)
        entities, of_entities = self.filler.entities(tables, entity_rows, batch.dropout)
        relations, of_relations = self.filler.relations(tables, relation_rows, batch.dropout)
        triples = torch.stack([ends[0], relation, ends[1]], dim=1).to("cpu", torch.int32).numpy()
        call = ScoreCall(of_entities, of_relations, triples, self.readout, *self.local.prompts)
        return entities, relations, call
