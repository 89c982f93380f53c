"""What `llama` puts into its slots: rows of a table as vectors of the model's size, and what is said of them."""

from collections.abc import Callable, Sequence

from torch import Tensor

from trainer.interactions.base import Dropout, Tables
from trainer.interactions.llama_adapter import slot_vectors
from trainer.interactions.llama_calls import Slots
from trainer.slot_texts import SlotTexts
from trainer.texts import Text


class Filler:
    """Fills slots. Each returns vectors [n, k, hidden] that carry gradients, and the slots as they are sent.

    Args:
        hidden: Size of the model's vectors.
        texts: What is said of rows, if anything.
    """

    def __init__(self, hidden: int, texts: SlotTexts | None) -> None:
        self.hidden, self.texts = hidden, texts

    def entities(self, tables: Tables, numbers: Tensor, dropout: Dropout) -> tuple[Tensor, Slots]:
        """Of entities with these numbers, int64 [n]."""
        vectors = slot_vectors(tables, "entity", dropout(tables.entity_rows(numbers)), self.hidden)
        return vectors, _slots(vectors, numbers, self.texts.of_entities if self.texts else None)

    def relations(self, tables: Tables, numbers: Tensor, dropout: Dropout) -> tuple[Tensor, Slots]:
        """Of relations with these numbers, int64 [n]."""
        vectors = slot_vectors(tables, "relation", dropout(tables.relation_rows(numbers)), self.hidden)
        return vectors, _slots(vectors, numbers, self.texts.of_relations if self.texts else None)


def _slots(vectors: Tensor, numbers: Tensor, texts: Callable[[Sequence[int]], list[Text]] | None) -> Slots:
    return Slots(vectors.detach().cpu().numpy(), texts(numbers.tolist()) if texts else ())
