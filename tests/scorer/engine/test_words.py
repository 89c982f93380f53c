from typing import Any

import pytest

from services.scorer.engine.words import NoVerdictTokens, Words


class Sentences:
    """Cuts as a SentencePiece tokenizer does: a word's first space is its own."""

    bos_token_id = None

    def __init__(self, *known: str) -> None:
        self.known = known

    def __call__(self, text: str, **_: Any) -> dict[str, list[int]]:
        return {"input_ids": [self.known.index(text)] if text in self.known else [99] * len(text)}


def test_labels_without_a_space_are_found() -> None:
    words = Words(Sentences("yes", "no", "head"))
    assert (words.yes, words.no, words.bos.tolist()) == (0, 1, [])
    assert words.constant(" head").tolist() == words.slot("head").tolist() == [2]


def test_labels_with_a_space_come_first() -> None:
    words = Words(Sentences("yes", "no", " yes", " no", " head"))
    assert (words.yes, words.no) == (2, 3)
    assert words.slot("head").tolist() == [4]


def test_a_tokenizer_without_labels_is_refused() -> None:
    with pytest.raises(NoVerdictTokens, match="' yes'"):
        Words(Sentences("yes", " no"))
