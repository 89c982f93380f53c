"""What a training's prompts say in words of each entity and relation: nothing, names, descriptions, or numbers.

`texts` reads what there is to say; here it is cut to what the training sends and the scorer reads.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from protocol.trainings import TrainingSettings
from trainer.graph import Graph
from trainer.seeds import seed_of
from trainer.texts import Text, Texts


@dataclass(frozen=True)
class SlotTexts:
    """Texts by row.

    Attributes:
        entities: Of a client's entities.
        relations: Of its relations; reciprocal ones, which follow them in tables, say the same.
    """

    entities: list[Text]
    relations: list[Text]

    @property
    def digest(self) -> str:
        """SHA-256 over all of them in their order."""
        return hashlib.sha256(json.dumps(asdict(self)).encode()).hexdigest()

    def of_entities(self, rows: Sequence[int]) -> list[Text]:
        """Of entities with these numbers."""
        return [self.entities[row] for row in rows]

    def of_relations(self, rows: Sequence[int]) -> list[Text]:
        """Of relations with these numbers, reciprocal ones among them."""
        return [self.relations[row % len(self.relations)] for row in rows]


def slot_texts(settings: TrainingSettings, graph: Graph, texts: Texts) -> SlotTexts | None:
    """What the training says of a graph's rows; None where it says nothing.

    A description is cut to as many words as its scorer reads tokens, so that nothing goes along that nobody reads.
    Numbers are drawn from the training's seed: neighbours in the alphabet get numbers that have nothing in common.
    """
    kind = settings.local.texts
    if settings.scorer is None or kind == "none":
        return None
    if kind == "anonymised":
        return SlotTexts(
            _numbered("entity", len(graph.entities), settings.seed),
            _numbered("relation", len(graph.relations), settings.seed),
        )
    words = (settings.scorer.description_tokens or 0) if kind == "descriptions" else 0
    entities, relations = texts.of(graph.entities, graph.relations)
    return SlotTexts([_cut(text, words) for text in entities], [_cut(text, words) for text in relations])


def _numbered(kind: str, count: int, seed: int) -> list[Text]:
    numbers = np.random.default_rng(seed_of(seed, "anonymised", kind)).permutation(count)
    return [Text(f"{kind} {number + 1}") for number in numbers.tolist()]


def _cut(text: Text, words: int) -> Text:
    """At most so many words of the description, and none in part."""
    return Text(text.label, " ".join((text.description or "").split()[:words]) or None)
