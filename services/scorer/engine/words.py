"""Words to token ids: how a template's words, a slot's text and an answer's labels are cut, for any LLaMA tokenizer.

Prompts are assembled from separately tokenised parts, since vectors may stand between them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.scorer.requests import SlotText

Ids = NDArray[np.int64]


class NoSingleTokens(Exception):
    """Two answers do not differ by a single token, so that a prompt's end cannot tell them apart."""


@dataclass(frozen=True)
class Answers:
    """Answers that a prompt's end is read for.

    Attributes:
        lead: Tokens that all of them begin with, [i]; they belong to the prompt. Tokenizers that cut a digit from the
            space before it need it.
        tokens: The one token of each answer that follows, [answers].
    """

    lead: Ids
    tokens: Ids


class Words:
    """A tokenizer as the prompts need it.

    Attributes:
        bos: The id that every prompt begins with, [1]; empty where the tokenizer has none.
    """

    def __init__(self, tokenizer: Any, description_tokens: int) -> None:
        self._tokenizer = tokenizer
        self._description_tokens = description_tokens
        bos = tokenizer.bos_token_id
        self.bos: Ids = _ids([] if bos is None else [bos])
        # Byte-level tokenizers mark a word's beginning by the space before it; SentencePiece ones add it themselves.
        spaced, bare = self._cut([" yes", "yes"])
        self._space = " " if len(spaced) <= len(bare) else ""
        self.start = lru_cache(maxsize=256)(self._start)
        self.constant = lru_cache(maxsize=256)(self._constant)

    def _cut(self, texts: Sequence[str]) -> list[Ids]:
        if not texts:
            return []
        # Text of a slot may hold "</s>": as letters, never as the special token.
        cut = self._tokenizer(list(texts), add_special_tokens=False, split_special_tokens=True)["input_ids"]
        return [_ids(ids) for ids in cut]

    def _start(self, text: str) -> Ids:
        """What a template's prompts begin with, int64 [i]: the tokenizer's own token, and words."""
        words = text.rstrip(" ")
        return np.concatenate([self.bos, *self._cut([words] if words else [])])

    def _constant(self, text: str) -> Ids:
        """Words of a template after a slot, int64 [i]; spaces at their end belong to the slot that follows."""
        words = text.rstrip(" ")
        if not words:
            return _ids([])
        if words.startswith(" "):
            return self._cut([self._space + words.lstrip(" ")])[0]
        # Tokenizers that begin each text with a space of their own must not put one before a comma or a new line.
        letter, joined = self._cut(["a", f"a{words}"])
        if np.array_equal(joined[: len(letter)], letter) and not words[0].isalnum():
            return joined[len(letter) :]
        return self._cut([words])[0]

    def slots(self, texts: Sequence[SlotText]) -> list[Ids]:
        """Texts that fill slots, int64 [i] each, as words that follow others: name, description, numbers."""
        names = self._cut([self._space + (text.name or "").strip() for text in texts])
        whole = self._cut([self._space + _told(text) for text in texts])
        numbers = self._cut([self._space + (text.numbers or "") for text in texts])
        found = []
        for text, name, all_, written in zip(texts, names, whole, numbers, strict=True):
            # The name is never cut; "," and the description's tokens follow it.
            before = len(name) + 1 if text.name and text.name.strip() else 0
            told = all_[: before + self._description_tokens] if text.description else name
            parts = [told if _told(text) else _ids([]), written if text.numbers else _ids([])]
            found.append(np.concatenate(parts))
        return found

    def answers(self, labels: Sequence[str]) -> Answers:
        """The tokens of answers that follow a prompt.

        Raises:
            NoSingleTokens: They do not differ by one token each.
        """
        cut = self._cut([self._space + label for label in labels])
        leads = {tuple(ids[:-1].tolist()) for ids in cut}
        tokens = [int(ids[-1]) for ids in cut if len(ids)]
        if len(leads) != 1 or len(set(tokens)) != len(labels):
            raise NoSingleTokens(
                f"the model's tokenizer has no single token for each of {', '.join(map(repr, labels))}; give others"
            )
        return Answers(_ids(leads.pop()), _ids(tokens))


def _told(text: SlotText) -> str:
    """Name and description, as one reads them."""
    return ", ".join(part.strip() for part in (text.name, text.description) if part and part.strip())


def _ids(ids: Any) -> Ids:
    return np.array(ids, dtype=np.int64)
