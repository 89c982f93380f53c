import numpy as np
import pytest

from protocol.problems import InvalidRequest
from services.scorer.engine.prompts import Bank, Rows, lay_out, spans
from services.scorer.engine.words import Words
from services.scorer.model import random_llama
from services.scorer.requests import Slots, SlotText

TOKENIZER = random_llama.build_tokenizer()
WORDS = Words(TOKENIZER, 64)


def ids(text: str) -> list[int]:
    return TOKENIZER(text, add_special_tokens=False)["input_ids"]


def lists(rows: Rows) -> list[list[int]]:
    return [rows.flat[start : start + n].tolist() for start, n in zip(rows.starts, rows.lengths, strict=True)]


def filled(counts: list[int], texts: dict[int, str], starts: list[int] | None = None) -> Slots:
    each = np.array(counts, dtype=np.int64)
    begin = np.cumsum(each) - each if starts is None else np.array(starts)
    vectors = np.zeros((int((begin + each).max()), 2))
    return Slots(vectors, begin, each, {row: SlotText(text) for row, text in texts.items()})


def meaning(bank: Bank, rows: Rows, first_vector: int) -> list[list[int | str]]:
    """Each list with token ids as numbers, and vectors as `v0`, `v1`, ..."""
    return [
        [int(bank.tokens[row]) if row < len(bank.tokens) else f"v{row - first_vector}" for row in part]
        for part in lists(rows)
    ]


def test_spans_count_up_from_each_start() -> None:
    assert spans(np.array([5, 0, 9]), np.array([2, 0, 3])).tolist() == [5, 6, 9, 10, 11]
    assert spans(np.array([], dtype=int), np.array([], dtype=int)).tolist() == []


def test_a_slot_is_its_text_then_its_vectors() -> None:
    bank = lay_out(filled([2, 0, 1], {1: "ab", 2: "b"}), filled([0, 3], {0: "yes"}), WORDS, [])
    found = meaning(bank, bank.entities, bank.first_entity)
    assert found == [["v0", "v1"], ids(" ab"), [*ids(" b"), "v2"]]
    assert meaning(bank, bank.relations, bank.first_relation) == [ids(" yes"), ["v0", "v1", "v2"]]
    assert (bank.first_entity, bank.first_relation) == (len(bank.tokens), len(bank.tokens) + 3)


def test_a_vector_that_no_row_uses_stands_in_no_prompt() -> None:
    bank = lay_out(filled([1, 0, 1], {1: "a"}, starts=[0, 1, 3]), filled([1], {}), WORDS, [])
    assert meaning(bank, bank.entities, bank.first_entity) == [["v0"], ids(" a"), ["v3"]]
    assert bank.first_relation == bank.first_entity + 4


def test_each_token_is_in_the_bank_once() -> None:
    other = np.array(ids("head: abba"))
    bank = lay_out(filled([0, 0], {0: "abba", 1: "baab"}), filled([0], {0: "ab"}), WORDS, [other])
    assert bank.tokens.tolist() == sorted({*ids("head: abba"), *ids(" abba")})
    assert bank.tokens[lists(bank.constant(other))[0]].tolist() == other.tolist()
    some = bank.lists([other[:2], other[:0], other[1:]])
    assert [bank.tokens[part].tolist() for part in lists(some)] == [other[:2].tolist(), [], other[1:].tolist()]


@pytest.mark.parametrize("field", ["entities", "relations"])
def test_blank_text_is_refused_by_its_row_unless_vectors_fill_the_slot(field: str) -> None:
    good, bad = filled([1, 0], {1: "a"}), filled([1, 0, 0], {0: " ", 1: "a", 2: " \n"})
    with pytest.raises(InvalidRequest) as refused:
        lay_out(*((bad, good) if field == "entities" else (good, bad)), WORDS, [])
    [error] = refused.value.errors
    assert (error.field, "not blank" in error.message) == (f"{field}.2", True)
