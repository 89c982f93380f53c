"""What an interaction is: scores of all candidates for each (given entity, relation, side).

Nearly every interaction splits in two. `query` turns what is given into one vector; `compare` meets it with all
candidates at once. So scoring one query against n candidates costs one query and n comparisons, whatever makes it.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from protocol.messages import HEAD
from protocol.trainings import Dense, LocalSettings
from trainer.answers import Queries
from trainer.comparisons import Comparison
from trainer.slot_texts import SlotTexts


@dataclass(frozen=True)
class Tables:
    """What a client trains: rows of its entities and relations, and the dense tensors shared by all clients.

    Attributes:
        entities: float32 [n, dim].
        relations: float32 [m, relation width].
        dense: The tensors that `Interaction.dense` names.
        sparse: Whether rows that are read get row-sparse gradients.
    """

    entities: Tensor
    relations: Tensor
    dense: Mapping[str, Tensor]
    sparse: bool = False

    def entity_rows(self, numbers: Tensor) -> Tensor:
        """The rows [n, dim] of entities with these numbers, int64 [n]."""
        return F.embedding(numbers, self.entities, sparse=self.sparse)

    def relation_rows(self, numbers: Tensor) -> Tensor:
        """The rows [n, relation width] of relations with these numbers, int64 [n]."""
        return F.embedding(numbers, self.relations, sparse=self.sparse)


@dataclass(frozen=True)
class Batch:
    """Queries as int64 tensors [q], and the dropout that applies to them."""

    given: Tensor
    relation: Tensor
    side: Tensor
    dropout: "Dropout"


class Dropout:
    """Inverted dropout with a generator of its own, so that a seeded run repeats exactly."""

    def __init__(self, rate: float, generator: torch.Generator | None = None) -> None:
        self.rate = rate
        self.generator = generator

    def __call__(self, x: Tensor) -> Tensor:
        """`x` with each number zeroed at the rate and the others scaled up to keep the mean; as it is at rate 0."""
        if not self.rate:
            return x
        keep = (torch.rand(x.shape, generator=self.generator) >= self.rate).to(x.device)
        return x * keep / (1 - self.rate)


NO_DROPOUT = Dropout(0.0)


class Interaction(ABC):
    """The function that scores a triple.

    Attributes:
        reciprocal: Whether a relation has a second vector for queries that ask for the head (Lacroix et al., 2018).
        device: Where its tensors are.
        texts: What it says of rows in words; None where it says nothing.
    """

    reciprocal: bool = False
    device: torch.device = torch.device("cpu")
    texts: SlotTexts | None = None

    def relation_width(self, dim: int) -> int:
        """Columns of a relation's row, for entity rows of `dim` columns."""
        return dim

    def dense(self, dim: int, settings: LocalSettings) -> dict[str, Dense]:
        """Shapes of the dense tensors that it trains whole; none unless overridden."""
        return {}

    def relation_bound(self, init: float) -> float:
        """Relation rows start uniform in ± this, where entity rows start in ± `init`."""
        return init

    def init_relations(self, count: int, dim: int, init: float, generator: torch.Generator) -> Tensor:
        """Fresh relation rows, float32 [count, relation width], uniform in ± `relation_bound`."""
        width = self.relation_width(dim)
        return (torch.rand(count, width, generator=generator) * 2 - 1) * self.relation_bound(init)

    def prepare(self, queries: Queries) -> None:
        """Do at once what asking these queries again and again takes but once; nothing unless overridden."""
        return

    @abstractmethod
    def scores(self, tables: Tables, batch: Batch) -> Tensor:
        """Scores of all entities, float32 [q, n]; higher is more plausible."""


class QueryInteraction(Interaction):
    """An interaction that makes a vector of each query, and compares it with candidates.

    Attributes:
        comparison: How its query vectors meet candidates.
    """

    comparison: Comparison = Comparison.DOT

    @abstractmethod
    def query(self, tables: Tables, batch: Batch) -> Tensor:
        """Query vectors, float32 [q, dim]."""

    def compare(self, query: Tensor, candidates: Tensor) -> Tensor:
        """Scores [q, n] of query vectors [q, dim] against candidate rows [n, dim]; higher is more plausible."""
        return self.comparison.pairs(query, candidates)

    def scores(self, tables: Tables, batch: Batch) -> Tensor:
        """One query vector a query, and every comparison."""
        return self.compare(self.query(tables, batch), tables.entities)


class RowwiseInteraction(QueryInteraction):
    """An interaction whose query needs nothing but the rows of its own entity and relation."""

    def query(self, tables: Tables, batch: Batch) -> Tensor:
        """Gather the rows and combine them."""
        given = batch.dropout(tables.entity_rows(batch.given))
        relation = batch.dropout(tables.relation_rows(batch.relation))
        backwards = (batch.side == HEAD) & (not self.reciprocal)
        return self.combine(given, relation, backwards, tables.dense)

    @abstractmethod
    def combine(self, given: Tensor, relation: Tensor, backwards: Tensor, dense: Mapping[str, Tensor]) -> Tensor:
        """Query vectors [q, dim] of given rows [q, dim] and relation rows.

        `backwards`, bool [q], is true where the head is asked for by the vector that leads from the head to the tail.
        """
