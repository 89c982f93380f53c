"""What another server's model is asked: the triples of a call as prompts of plain text."""

from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from services.scorer.remote import answers
from services.scorer.remote.answers import Answer, Reply
from services.scorer.requests import ScoreCall, SlotText
from services.scorer.settings import Settings
from services.scorer.templates import SLOTS, Template

_NUMBER_TOKENS = 8
"""Room for one number in the answer, with its candidate's number and a line's end where there are several."""


@dataclass(frozen=True)
class Question:
    """One prompt.

    Attributes:
        places: Where in the call the triples stand that it asks about.
        answer_tokens: How long the answer may be.
        logprobs: Whether log-probabilities are read from it.
        read: An answer for each of the places.
    """

    text: str
    places: list[int]
    answer_tokens: int
    logprobs: bool
    read: Callable[[Reply], list[Answer]]


def questions(call: ScoreCall, template: Template, settings: Settings) -> Iterator[Question]:
    """The prompts of a call of readout `verdict` or `number`, made as they are asked for: vectors in digits are long.

    With `openai_candidates` over 1, every prompt of `number` is a list, also where one candidate is left over: numbers
    that were asked for in another way do not compare.
    """
    if call.readout == "number" and settings.openai_candidates > 1:
        return _lists(call, template, settings)
    return _singles(call, template, settings)


def told(text: SlotText, description_words: int) -> str:
    """What a slot says: name, description, numbers. There is no tokenizer here: descriptions are cut to words."""
    description = " ".join((text.description or "").split()[:description_words])
    named = ", ".join(filter(None, [text.name, description]))
    return " ".join(filter(None, [named, text.numbers]))


def _singles(call: ScoreCall, template: Template, settings: Settings) -> Iterator[Question]:
    for place, triple in enumerate(call.triples.tolist()):
        text = _filled(template.parts, call, triple, settings)
        if call.readout == "number":
            yield Question(text, [place], _NUMBER_TOKENS, True, lambda reply: [answers.number(reply)])
        else:
            yield Question(text, [place], 1, True, lambda reply: [answers.verdict(reply, template.labels)])


def _lists(call: ScoreCall, template: Template, settings: Settings) -> Iterator[Question]:
    triples = call.triples.tolist()
    asked = SLOTS.index(template.asks)
    queries: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for place, triple in enumerate(triples):
        queries[*triple[:asked], *triple[asked + 1 :]].append(place)
    for places in queries.values():
        for first in range(0, len(places), settings.openai_candidates):
            listed = places[first : first + settings.openai_candidates]
            before = _filled(template.parts[:-2], call, triples[listed[0]], settings).rstrip()
            # On one line each: a line of a name must not pass for another candidate.
            names = [" ".join(_slot(template.asks, call, triples[place], settings).split()) for place in listed]
            yield _list(before, names, listed)


def _list(before: str, names: list[str], places: list[int]) -> Question:
    count = len(names)
    lines = [f"{i}: {name}" for i, name in enumerate(names, start=1)]
    demand = (
        f"Number of candidates: {count}. Answer with exactly as many numbers from 0 to 9, one a line, as `1: 7`, "
        "and with nothing else:"
    )
    text = "\n".join([before, *lines, demand])
    return Question(text, places, count * _NUMBER_TOKENS, False, lambda reply: answers.numbers(reply, count))


def _filled(parts: list[str], call: ScoreCall, triple: list[int], settings: Settings) -> str:
    return "".join(_slot(part, call, triple, settings) if i % 2 else part for i, part in enumerate(parts))


def _slot(name: str, call: ScoreCall, triple: list[int], settings: Settings) -> str:
    rows = call.relations if name == "relation" else call.entities
    return told(rows.texts[triple[SLOTS.index(name)]], settings.description_tokens)
