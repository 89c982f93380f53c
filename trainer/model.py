"""A client's model: entity and relation rows, shared dense tensors, and the interaction that scores with them."""

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from protocol.messages import HEAD
from protocol.trainings import DENSE_PREFIX
from trainer.answers import Queries
from trainer.interactions import Batch, Dropout, Interaction, Tables
from trainer.interactions.base import NO_DROPOUT

Array = NDArray[np.float32]


class Model(nn.Module):
    """Trainable tables and an interaction.

    Args:
        interaction: Scores queries against candidates.
        entities: float32 [n, dim].
        relations: float32 [m, relation width]; m counts reciprocal relations, which follow the plain ones.
        dense: The interaction's dense tensors by name.

    Attributes:
        sparse: Whether rows that are read get row-sparse gradients; set by who trains it.
    """

    def __init__(self, interaction: Interaction, entities: Array, relations: Array, dense: Mapping[str, Array]) -> None:
        super().__init__()
        self.interaction, self.sparse = interaction, False
        self.entities = self._parameter(entities)
        self.relations = self._parameter(relations)
        # Parameter names may not hold dots.
        self._dense_names = {name: name.replace(".", "_") for name in dense}
        self._dense = nn.ParameterDict({self._dense_names[n]: self._parameter(t) for n, t in dense.items()})

    def _parameter(self, array: Array) -> nn.Parameter:
        return nn.Parameter(torch.tensor(array, device=self.interaction.device))

    @property
    def tables(self) -> Tables:
        """The trainable tensors, by role."""
        dense = {n: self._dense[p] for n, p in self._dense_names.items()}
        return Tables(self.entities, self.relations, dense, self.sparse)

    def scores(self, queries: Queries, dropout: Dropout = NO_DROPOUT) -> Tensor:
        """Scores of all entities, float32 [q, n]; higher is more plausible."""
        return self.interaction.scores(self.tables, self.batch(queries, dropout))

    def rank_scores(self, queries: Queries) -> Array:
        """`scores` without gradient, as `trainer.ranking.rank` asks for them."""
        with torch.no_grad():
            return self.scores(queries).cpu().numpy()

    def batch(self, queries: Queries, dropout: Dropout) -> Batch:
        """Queries as the interaction takes them."""
        columns = (queries.given, queries.relation, queries.side)
        given, relation, side = (torch.from_numpy(c).to(self.interaction.device) for c in columns)
        if self.interaction.reciprocal:
            relation = relation + (side == HEAD) * (len(self.relations) // 2)
        return Batch(given, relation, side, dropout)

    def state(self) -> dict[str, Array]:
        """Everything needed to make this model again: `entities`, `dense.<name>` and `relations`.

        Copies, safe from later training.
        """
        tables = self.tables
        dense = {DENSE_PREFIX + name: tensor for name, tensor in tables.dense.items()}
        state = {"entities": tables.entities, **dense, "relations": tables.relations}
        return {name: tensor.detach().cpu().numpy().copy() for name, tensor in state.items()}

    @classmethod
    def of_state(cls, interaction: Interaction, state: Mapping[str, Array]) -> "Model":
        """The model that `state` described."""
        dense = {name.removeprefix(DENSE_PREFIX): t for name, t in state.items() if name.startswith(DENSE_PREFIX)}
        return cls(interaction, state["entities"], state["relations"], dense)
