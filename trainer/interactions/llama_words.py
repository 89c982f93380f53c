"""`llama` from words alone: no vector stands in its prompts, so that its states never change.

Each is asked for once, before the training, and kept in a file. Training then trains entity rows and the map that turns
states into query vectors, and calls nobody.
"""

import numpy as np
import torch
from torch import Tensor

from protocol.trainings import LocalSettings
from trainer.answers import Ints, Queries
from trainer.interactions.base import Batch, Tables
from trainer.interactions.llama import Llama
from trainer.interactions.llama_calls import EncoderCall, Floats, FrozenModel, Slots
from trainer.kept_states import KeptStates
from trainer.prompting import Prompting

QUERIES_AT_ONCE = 1024
"""Asked for between two words of progress."""


class WordLlama(Llama):
    """q = W_state LLaMA(prompt(words of e, words of r)), score = q . candidate. Relations have no rows."""

    def __init__(self, model: FrozenModel, local: LocalSettings, prompting: Prompting | None = None) -> None:
        super().__init__(model, local, prompting)
        self.kept = KeptStates(self.prompting.states, model.hidden)

    def relation_width(self, dim: int) -> int:
        """None: nothing of a relation is trained."""
        return 0

    def prepare(self, queries: Queries) -> None:
        """Ask for the states that are missing. They are saved whenever they have doubled, so that a kill costs half."""
        numbers = self._numbers(queries.given, queries.relation, queries.side)
        while len(missing := self.kept.missing(numbers)):
            self._ask(missing[: max(QUERIES_AT_ONCE, len(self.kept))])
            self.kept.save()

    def states(self, tables: Tables, batch: Batch) -> Tensor:
        """States [q, hidden]; those that are not kept are asked for."""
        numbers = self._numbers(*(column.cpu().numpy() for column in (batch.given, batch.relation, batch.side)))
        self._ask(self.kept.missing(numbers))
        return torch.from_numpy(self.kept.at(numbers)).to(batch.given.device)

    def _ask(self, numbers: Ints) -> None:
        found: list[Floats] = []
        for start in range(0, len(numbers), QUERIES_AT_ONCE):
            self.prompting.now(f"reading the words of queries: {len(self.kept) + start} are done")
            found.append(self.model.encode(self._call(numbers[start : start + QUERIES_AT_ONCE])))
        if found:
            self.kept.add(numbers, np.concatenate(found))

    def _numbers(self, given: Ints, relation: Ints, side: Ints) -> Ints:
        """One number a query, whatever vector its relation has."""
        assert self.texts is not None
        relations = len(self.texts.relations)
        numbers: Ints = (side * relations + relation % relations) * len(self.texts.entities) + given
        return numbers

    def _call(self, numbers: Ints) -> EncoderCall:
        assert self.texts is not None
        assert self.local.layer != "none"
        rest, given = np.divmod(numbers, len(self.texts.entities))
        side, relation = np.divmod(rest, len(self.texts.relations))
        entity_rows, entities = np.unique(given, return_inverse=True)
        relation_rows, relations = np.unique(relation, return_inverse=True)
        return EncoderCall(
            Slots(self._nothing(entity_rows), self.texts.of_entities(entity_rows.tolist())),
            Slots(self._nothing(relation_rows), self.texts.of_relations(relation_rows.tolist())),
            np.stack([entities, relations], axis=1).astype(np.int32),
            side.astype(np.uint8),
            self.local.layer,
            self.local.prompts,
        )

    def _nothing(self, rows: Ints) -> Floats:
        return np.zeros((len(rows), 0, self.model.hidden), dtype=np.float32)
