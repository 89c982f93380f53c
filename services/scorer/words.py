"""Words to token ids: how a template's words and a slot's text are cut, for any LLaMA tokenizer.

Prompts are assembled from separately tokenised parts, since vectors may stand between them.
"""

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.int64]


class NoVerdictTokens(Exception):
    """The tokenizer has no single tokens for yes and no, so a verdict cannot be read."""


class Words:
    """A tokenizer as the prompts need it.

    Attributes:
        bos: The id that every prompt begins with, [1]; empty where the tokenizer has none.
        yes: The token of the verdict yes.
        no: The token of the verdict no.

    Raises:
        NoVerdictTokens: Neither " yes" and " no" nor "yes" and "no" are single tokens.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        bos = tokenizer.bos_token_id
        self.bos: Ids = np.array([] if bos is None else [bos], dtype=np.int64)
        # Byte-level tokenizers mark a word's beginning by the space before it; SentencePiece ones add it themselves.
        for self._space in (" ", ""):
            yes, no = self._cut(self._space + "yes"), self._cut(self._space + "no")
            if len(yes) == len(no) == 1:
                self.yes, self.no = int(yes[0]), int(no[0])
                break
        else:
            raise NoVerdictTokens(
                "the model's tokenizer has no single token for ' yes' and ' no', nor for 'yes' and 'no'"
            )
        self.constant = lru_cache(maxsize=256)(self._constant)

    def _cut(self, text: str) -> Ids:
        # Text of a slot may hold "</s>": as letters, never as the special token.
        ids = self._tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
        return np.array(ids, dtype=np.int64)

    def _constant(self, text: str) -> Ids:
        """Words of a template, int64 [i]; spaces at their end belong to the slot that follows."""
        words = text.rstrip(" ")
        if not words:
            return np.array([], dtype=np.int64)
        return self._cut(self._space + words.lstrip(" ") if words.startswith(" ") else words)

    def slot(self, text: str) -> Ids:
        """Text that fills a slot, int64 [i], as words that follow others."""
        return self._cut(self._space + text.strip())
