"""What a frozen LLaMA is asked, and what it answers: the scorer's routes as `llama` calls them.

`trainer.remote_model` asks them over HTTP; the interactions know no more of the model than this.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from protocol.encoding import Layer
from protocol.forms import OWN_TEMPLATES, PointwiseReadout
from protocol.scoring import Loss
from trainer.texts import Text

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Slots:
    """What stands in prompts for some rows of a table: vectors, words, or both.

    Attributes:
        vectors: float32 [n, k, hidden]; k is 0 where words stand alone.
        texts: One a row; none where vectors stand alone.
    """

    vectors: Floats
    texts: Sequence[Text] = ()

    def __len__(self) -> int:
        return len(self.vectors)

    def at(self, rows: NDArray[np.integer]) -> "Slots":
        """Those of the given rows."""
        return Slots(self.vectors[rows], [self.texts[row] for row in rows] if self.texts else ())


@dataclass(frozen=True)
class EncoderCall:
    """Queries as they go to the scorer.

    Attributes:
        entities: What stands for the given entities.
        relations: What stands for the relations.
        queries: int32 [q, 2], rows of `entities` and of `relations`.
        sides: uint8 [q].
        layer: After which layer of the model the states are read.
        templates: Names of those that ask for the tail and for the head.
    """

    entities: Slots
    relations: Slots
    queries: NDArray[np.int32]
    sides: NDArray[np.uint8]
    layer: Layer = "last"
    templates: tuple[str, ...] = OWN_TEMPLATES["state"]

    def part(self, queries: slice) -> tuple["EncoderCall", NDArray[np.integer], NDArray[np.integer]]:
        """The call of some of the queries, and the rows of `entities` and `relations` that it holds."""
        chosen = self.queries[queries]
        entities, given = np.unique(chosen[:, 0], return_inverse=True)
        relations, relation = np.unique(chosen[:, 1], return_inverse=True)
        asked = np.stack([given, relation], axis=1).astype(np.int32)
        slots = self.entities.at(entities), self.relations.at(relations)
        call = EncoderCall(*slots, asked, self.sides[queries], self.layer, self.templates)
        return call, entities, relations


@dataclass(frozen=True)
class ScoreCall:
    """Triples as they go to the scorer.

    Attributes:
        entities: What stands for heads and tails.
        relations: What stands for the relations.
        triples: int32 [t, 3], rows of `entities`, `relations` and `entities`.
        readout: How the score is read.
        template: Name of the one that asks.
    """

    entities: Slots
    relations: Slots
    triples: NDArray[np.int32]
    readout: PointwiseReadout
    template: str

    def part(self, triples: slice) -> tuple["ScoreCall", NDArray[np.integer], NDArray[np.integer]]:
        """The call of some of the triples, and the rows of `entities` and `relations` that it holds."""
        chosen = self.triples[triples]
        entities, ends = np.unique(chosen[:, [0, 2]], return_inverse=True)
        relations, relation = np.unique(chosen[:, 1], return_inverse=True)
        head, tail = ends.reshape(-1, 2).T
        asked = np.stack([head, relation, tail], axis=1).astype(np.int32)
        return (
            ScoreCall(self.entities.at(entities), self.relations.at(relations), asked, self.readout, self.template),
            entities,
            relations,
        )


class FrozenModel(Protocol):
    """A frozen model: the scorer's `/encode` and `/score`, and their gradients.

    Attributes:
        hidden: Size of the vectors that it reads, and of its states.

    States are float32 [q, hidden]; gradients have the shapes of the vectors in the call.
    """

    hidden: int

    def encode(self, call: EncoderCall, keep: bool = False) -> Floats:
        """States of the queries; `keep` says that their gradient is asked for next."""

    def gradient(self, call: EncoderCall, grad_states: Floats) -> tuple[Floats, Floats]:
        """d(loss)/d(entities) and d(loss)/d(relations) for given d(loss)/d(states)."""

    def score(self, call: ScoreCall) -> Floats:
        """Scores of the triples, float32 [t]."""

    def score_gradient(self, call: ScoreCall, loss: Loss, group: int) -> tuple[float, Floats, Floats]:
        """A loss of the triples, and d(loss)/d(entities) and d(loss)/d(relations).

        Args:
            call: So many triples a group as `group` says, the first of each true, the others not.
            loss: A mean over the groups, or over their negatives.
            group: Triples of a group.
        """
