"""The control of `llama` without a LLaMA: the same slots, adapter and dot product, and no layer between them."""

from torch import Tensor

from trainer.interactions.base import Batch, Tables
from trainer.interactions.llama import Llama, UniqueRows


class LayerlessLlama(Llama):
    """q = W_state norm(mean(W_entity e, W_relation r)): what `llama` gains on this, its layers gave. Sends nothing."""

    def states(self, tables: Tables, batch: Batch) -> Tensor:
        """The mean [q, hidden] of the vectors of both slots."""
        unique = UniqueRows(batch)
        entities, _ = self.filler.entities(tables, unique.entity_rows, batch.dropout)
        relations, _ = self.filler.relations(tables, unique.relation_rows, batch.dropout)
        return (entities.mean(dim=1)[unique.given] + relations.mean(dim=1)[unique.relation]) / 2
