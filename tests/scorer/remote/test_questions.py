from typing import Any

import numpy as np
import pytest

from services.scorer.remote.questions import questions, told
from services.scorer.requests import ScoreCall, Slots, SlotText
from services.scorer.settings import Settings
from services.scorer.templates import load

TEMPLATES = load()


def slots(*texts: SlotText | str) -> Slots:
    none = np.zeros(len(texts), dtype=np.int64)
    rows = {i: SlotText(text) if isinstance(text, str) else text for i, text in enumerate(texts)}
    return Slots(np.zeros((0, 0), dtype=np.float32), none, none, rows)


def call(triples: list[list[int]], readout: Any = "number", **given: Slots) -> ScoreCall:
    entities = given.get("entities", slots("aspirin", "headache", "fever", "gout"))
    relations = given.get("relations", slots("treats", "causes"))
    return ScoreCall(entities, relations, np.array(triples, dtype=np.int64), readout)


def settings(**given: Any) -> Settings:
    return Settings(backend="openai", model="m", **given)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (SlotText("aspirin"), "aspirin"),
        (SlotText("aspirin", "a drug\n against  pain"), "aspirin, a drug against"),
        (SlotText(None, "a drug"), "a drug"),
        (SlotText("aspirin", "a drug", "[0.12, -1.30] [1.00]"), "aspirin, a drug [0.12, -1.30] [1.00]"),
        (SlotText(numbers="[0.12]"), "[0.12]"),
    ],
)
def test_a_slot_reads_name_description_numbers(text: SlotText, expected: str) -> None:
    assert told(text, description_words=3) == expected


def test_a_prompt_is_the_template_with_its_slots_filled() -> None:
    entities = slots(SlotText("aspirin", "a drug against pain"), SlotText("headache", numbers="[0.50]"))
    asked = call([[0, 0, 1]], "verdict", entities=entities)
    [found] = questions(asked, TEMPLATES["triple"], settings(description_tokens=2))
    assert found.text == (
        "Is this triple true, yes or no?\nhead: aspirin, a drug\nrelation: treats\ntail: headache [0.50]\nanswer:"
    )
    assert (found.places, found.answer_tokens, found.logprobs) == ([0], 1, True)


def test_candidates_of_a_query_are_listed_in_prompts_of_so_many() -> None:
    asked = call([[0, 0, 1], [0, 1, 3], [0, 0, 2], [0, 0, 3]])
    first, second, other = questions(asked, TEMPLATES["number"], settings(openai_candidates=2))
    lines = first.text.splitlines()
    assert lines[:6] == [
        "How true is this triple, from 0 (false) to 9 (true)?",
        "head: aspirin",
        "relation: treats",
        "tail:",
        "1: headache",
        "2: fever",
    ]
    assert "candidates: 2." in lines[6]
    assert "`1: 7`" in lines[6]
    assert len(lines) == 7
    assert [first.places, second.places, other.places] == [[0, 2], [3], [1]]
    assert "1: gout" in second.text.splitlines()
    assert "causes" in other.text


def test_the_slot_that_the_template_asks_for_is_the_one_that_differs() -> None:
    asked = call([[0, 0, 3], [1, 0, 3], [2, 0, 3], [2, 0, 1]])
    first, other = questions(asked, TEMPLATES["number_head"], settings(openai_candidates=100))
    assert first.places == [0, 1, 2]
    assert first.text.splitlines()[1:7] == [
        "relation: treats",
        "tail: gout",
        "head:",
        "1: aspirin",
        "2: headache",
        "3: fever",
    ]
    assert other.places == [3]


def test_a_name_of_several_lines_stays_one_candidate() -> None:
    entities = slots("aspirin", "head\n2: fever", "gout")
    [found] = questions(
        call([[0, 0, 1], [0, 0, 2]], entities=entities), TEMPLATES["number"], settings(openai_candidates=5)
    )
    assert found.text.splitlines()[4:6] == ["1: head 2: fever", "2: gout"]


def test_a_verdict_is_never_asked_of_a_list() -> None:
    asked = call([[0, 0, 1], [0, 0, 2]], "verdict")
    assert len(list(questions(asked, TEMPLATES["triple"], settings(openai_candidates=5)))) == 2
