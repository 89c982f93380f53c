"""Rows of tokens to train on: texts and questions in random order, cut into tokens and laid end to end."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tools.embedded_model.corpus import Entry
from tools.embedded_model.questions import Questions, Spans
from tools.embedded_model.recipe import Recipe

ENCODED = 2_000
"""Texts or questions that are cut at once."""


@dataclass(frozen=True)
class Document:
    """Tokens of a text or a question, int32 [n], and the weight of each in the loss as what comes next, float32 [n]."""

    tokens: NDArray[np.int32]
    weights: NDArray[np.float32]


@dataclass(frozen=True)
class Rows:
    """Rows to learn from.

    Attributes:
        tokens: int32 [rows, positions + 1]; each is to be predicted from those before it.
        weights: float32 [rows, positions + 1].
    """

    tokens: NDArray[np.int32]
    weights: NDArray[np.float32]


def encode_texts(tokenizer: Any, entries: Sequence[Entry]) -> list[Document]:
    """Each entry's title and text, all of it to be learnt."""
    return encode(tokenizer, [[(entry.told, 1.0)] for entry in entries])


def encode(tokenizer: Any, told: Sequence[Spans]) -> list[Document]:
    """Each text or question between the tokens that begin and end a document."""
    # What the tokenizer tells beside the ids is many times their size.
    parts = [told[start : start + ENCODED] for start in range(0, len(told), ENCODED)]
    return [document for part in parts for document in _encode(tokenizer, part)]


def _encode(tokenizer: Any, told: Sequence[Spans]) -> Iterator[Document]:
    pieces = [text for spans in told for text, _ in spans]
    cut = iter(tokenizer(pieces, add_special_tokens=False, split_special_tokens=True)["input_ids"])
    for spans in told:
        tokens, weights = [tokenizer.bos_token_id], [0.0]
        for _, weight in spans:
            ids = next(cut)
            tokens += ids
            weights += [weight] * len(ids)
        # A text's end is learnt as its words are; that of a question says nothing.
        tokens, weights = [*tokens, tokenizer.eos_token_id], [*weights, float(len(spans) == 1)]
        yield Document(np.array(tokens, dtype=np.int32), np.array(weights, dtype=np.float32))


def epoch(recipe: Recipe, tokenizer: Any, entries: Sequence[Entry], questions: Questions, number: int) -> Rows:
    """Every text once, and questions that are others in each epoch; what fills no whole row is left out."""
    random_ = random.Random(f"{recipe.seed} epoch {number}")
    documents = encode_texts(tokenizer, entries)
    texts = sum(len(document.tokens) for document in documents)
    wanted = texts * recipe.question_share / (1 - recipe.question_share)
    while wanted > 0:
        asked = encode(tokenizer, [questions.ask(random_) for _ in range(1_000)])
        documents += asked
        wanted -= sum(len(document.tokens) for document in asked)
    random_.shuffle(documents)
    tokens = np.concatenate([document.tokens for document in documents])
    weights = np.concatenate([document.weights for document in documents])
    # Neighbouring rows share a token: the last of a row is predicted there, and read in the next.
    rows = (len(tokens) - 1) // recipe.positions
    places = np.arange(rows)[:, None] * recipe.positions + np.arange(recipe.positions + 1)
    return Rows(tokens[places], weights[places])
