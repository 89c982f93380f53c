"""How well a model reads what it was not trained on: bits per byte of the texts, and how often it answers rightly."""

import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from tools.embedded_model.corpus import Entry
from tools.embedded_model.questions import Questions
from tools.embedded_model.rows import Document, encode, encode_texts

QUESTIONS = 500
BATCH_TOKENS = 8_192


@dataclass(frozen=True)
class Reading:
    """What was found.

    Attributes:
        bits_per_byte: Of the texts in UTF-8, each after its title and to its end.
        right: Share of the answers that are the likeliest token.
        answer_loss: Mean of -log p(answer), in nats.
    """

    bits_per_byte: float
    right: float
    answer_loss: float


def bits_per_byte(model: Any, tokenizer: Any, entries: Sequence[Entry]) -> float:
    """Bits that the model takes for the entries' titles and texts, one by one, over their bytes."""
    return _bits_per_byte(model, encode_texts(tokenizer, entries), _size(entries))


class HeldOut:
    """The texts and questions that a training is watched by.

    Args:
        tokenizer: Cuts them.
        entries: Texts that were held out.
        questions: About them.
        seed: Of the questions.
    """

    def __init__(self, tokenizer: Any, entries: Sequence[Entry], questions: Questions, seed: int) -> None:
        self._size = _size(entries)
        self._texts = encode_texts(tokenizer, entries)
        random_ = random.Random(f"{seed} held out")
        self._questions = encode(tokenizer, [questions.ask(random_) for _ in range(QUESTIONS)])

    def read(self, model: Any) -> Reading:
        """Read everything, in the model's own dtype."""
        # An answer has a weight above 1; what is only read has none.
        answers = [
            (losses[weights > 1], best[weights > 1]) for losses, best, weights in _tokens(model, self._questions)
        ]
        answer_loss = torch.cat([losses for losses, _ in answers])
        right = torch.cat([best for _, best in answers])
        bits = _bits_per_byte(model, self._texts, self._size)
        return Reading(bits, float(right.float().mean()), float(answer_loss.mean()))


def _size(entries: Sequence[Entry]) -> int:
    return sum(len(entry.told.encode()) for entry in entries)


def _bits_per_byte(model: Any, texts: Sequence[Document], size: int) -> float:
    return sum(float(losses.sum()) for losses, _, _ in _tokens(model, texts)) / math.log(2) / size


def _tokens(model: Any, documents: Sequence[Document]) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Of the tokens that count, batch by batch: -log p, whether they are the likeliest ones, and their weights."""
    device, positions = model.device, model.config.max_position_embeddings
    for batch in _batches([piece for document in documents for piece in _pieces(document, positions)]):
        longest = max(len(document.tokens) for document in batch)
        tokens, weights = torch.zeros(len(batch), longest, dtype=torch.long), torch.zeros(len(batch), longest)
        for row, document in enumerate(batch):
            tokens[row, : len(document.tokens)] = torch.from_numpy(document.tokens)
            weights[row, : len(document.tokens)] = torch.from_numpy(document.weights)
        counted = weights[:, 1:] > 0
        with torch.no_grad():
            # Rows are filled up at their ends, which nothing before them sees.
            states = model.model(input_ids=tokens[:, :-1].to(device)).last_hidden_state[counted.to(device)]
            logits = model.lm_head(states).float().cpu()
        wanted = tokens[:, 1:][counted]
        losses = F.cross_entropy(logits, wanted, reduction="none")
        yield losses, logits.argmax(1) == wanted, weights[:, 1:][counted]


def _pieces(document: Document, positions: int) -> Iterator[Document]:
    """A document as the model can read it: of a longer one, each half row after the whole half before it."""
    half = positions // 2
    yield Document(document.tokens[:positions], document.weights[:positions])
    for start in range(half, len(document.tokens) - half, half):
        part = slice(start, start + positions)
        weights = document.weights[part].copy()
        weights[:half] = 0
        yield Document(document.tokens[part], weights)


def _batches(documents: Sequence[Document]) -> Iterator[list[Document]]:
    """Documents of about equal length together."""
    batch: list[Document] = []
    for document in sorted(documents, key=lambda document: len(document.tokens)):
        if batch and (len(batch) + 1) * len(document.tokens) > BATCH_TOKENS:
            yield batch
            batch = []
        batch.append(document)
    if batch:
        yield batch
