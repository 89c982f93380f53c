"""Instruction text made of titles and texts: prompts in the words of the shipped templates, with their answers.

A prompt asks whether something belongs to a title: another title that its texts mention, or a text about it. Half of
what is offered belongs to it; the other half is taken from another title. Yes and no answer the templates of
`verdict`, a digit those of `number`; what belongs to it answers those of `likelihood`.

Nothing here knows a knowledge graph. The relation's slot holds words that say no more than "has to do with"
(`MENTIONS`) or "is described as" (`DESCRIBES`), or two words drawn from anywhere: a relation may well be a name that
the model has never seen.
"""

import random
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

from services.scorer.templates import Template
from tools.embedded_model.corpus import Entry

MENTIONS = ("mentions", "has to do with", "is connected with", "linked to", "goes with", "is told of along with")
DESCRIBES = ("description", "meaning", "what it is", "is described as", "in other words")
DRAWN = 0.25
"""Share of the relations that are two words drawn from texts."""
DRAWN_LETTERS = 5
"""Words that are drawn have so many letters: shorter ones are those that names of relations are made with."""

TITLE_WORDS = 4
"""A title of more words is not looked for in texts."""
COMMON = 0.05
"""A title that a larger share of the texts mention says too little."""
TEXT_WORDS = 40
"""A description in a prompt is cut to so many words at most."""
CANDIDATES = 4
"""What is offered in one prompt, one after the other."""

ABOUT_MENTIONS = 0.7
"""Share of the prompts that offer titles; the others offer texts."""
ALIKE = 0.5
"""Share of the wrong titles that are taken from a title of the same kind: one that mentions something in common."""
SPLICED = 0.5
"""Share of the texts that a digit is asked about which are right at their beginning only."""

ATTEMPTS = 5
"""How often something is looked for that the title does not mention as well."""

KINDS = {"verdict": 0.7, "number": 0.15, "likelihood": 0.15}
TEMPLATES = {
    "verdict": ("triple", "triple", "triple_head", "short"),
    "number": ("number", "number_head"),
    "likelihood": ("tail", "head"),
}
"""Which readout's templates are asked, how often, and which."""

_WORD = re.compile(r"[^\W_]+(?:['’.-][^\W_]+)*")  # noqa: RUF001 - the typographic apostrophe is meant

Spans = list[tuple[str, float]]
"""Pieces of text, each with its weight in the loss: 0 is read, but not learnt to be written."""


@dataclass(frozen=True)
class Candidate:
    """Something that is offered for the slot that is asked for: its text, and how much of it is right, 0 to 1."""

    text: str
    truth: float


class Questions:
    """Makes questions about titles.

    Args:
        about: Their entries.
        entries: All entries that may be offered, those among them.
        templates: The shipped ones.
        answer_weight: Of an answer's token in the loss, above 1.
    """

    def __init__(
        self, about: Sequence[Entry], entries: Sequence[Entry], templates: Mapping[str, Template], answer_weight: float
    ) -> None:
        self._about, self._entries = about, entries
        self._templates = templates
        self._weight = answer_weight
        self._texts: dict[str, list[Entry]] = defaultdict(list)
        for entry in entries:
            self._texts[entry.title].append(entry)
        self._mentions = _mentions(self._texts)
        titles = sorted({entry.title for entry in about} & self._mentions.keys())
        self._pairs = [(title, name) for title in titles for name in self._mentions[title]]
        self._mentioned_by: dict[str, list[str]] = defaultdict(list)
        for title, names in sorted(self._mentions.items()):
            for name in names:
                self._mentioned_by[name].append(title)

    def ask(self, random_: random.Random) -> Spans:
        """One prompt with what is offered and the answers."""
        readout = random_.choices(list(KINDS), list(KINDS.values()))[0]
        template = self._templates[random_.choice(TEMPLATES[readout])]
        if random_.random() < ABOUT_MENTIONS and self._pairs:
            given, relation, offered = self._about_mentions(random_)
        else:
            given, relation, offered = self._about_texts(random_, spliced=readout == "number")
        if readout == "likelihood":
            offered = [candidate for candidate in offered if candidate.truth == 1][:1]
        return told(template, readout, given, relation, offered, self._weight)

    def _about_mentions(self, random_: random.Random) -> tuple[str, str, list[Candidate]]:
        """A title with a text; offered are titles that its texts mention, and titles that other texts do."""
        title, _ = random_.choice(self._pairs)
        own = self._mentions[title]
        offered = []
        for wanted in _answers(random_):
            found = random_.choice(own) if wanted else self._another(random_, title)
            truth = found == title or found in own  # where no other was found
            described = random_.random() < 0.5
            text = _cut(random_.choice(self._texts[found]).told, random_) if described else found
            offered.append(Candidate(text, float(truth)))
        given = _cut(random_.choice(self._texts[title]).told, random_)
        return given, self._relation(random_, MENTIONS), offered

    def _another(self, random_: random.Random, title: str) -> str:
        """What another title mentions: about as well known as what this one does, as both are drawn by mentions."""
        own, alike = self._mentions[title], random_.random() < ALIKE
        for _ in range(ATTEMPTS):
            if alike:
                other = random_.choice(self._mentioned_by[random_.choice(own)])
                found = random_.choice(self._mentions[other])
            else:
                found = random_.choice(self._pairs)[1]
            if found != title and found not in own:
                break
        return found

    def _about_texts(self, random_: random.Random, *, spliced: bool) -> tuple[str, str, list[Candidate]]:
        """A title, perhaps with one text; offered are texts about it and about others, or, `spliced`, half and half."""
        entry = random_.choice(self._about)
        others = [other for other in self._texts[entry.title] if other != entry]
        given = _cut(random_.choice(others).told, random_) if others and random_.random() < 0.7 else entry.title
        offered = []
        for wanted in _answers(random_):
            stranger = random_.choice(self._entries)
            if spliced and random_.random() < SPLICED:
                offered.append(_spliced(entry.text, stranger.text, random_))
            else:
                truth = wanted or stranger.title == entry.title
                offered.append(Candidate(_cut((entry if wanted else stranger).text, random_), float(truth)))
        return given, self._relation(random_, DESCRIBES), offered

    def _relation(self, random_: random.Random, phrases: Sequence[str]) -> str:
        if random_.random() >= DRAWN:
            return random_.choice(phrases)
        texts = [random_.choice(self._entries).text for _ in range(2)]
        words = [[word for word in _WORD.findall(text) if len(word) >= DRAWN_LETTERS] for text in texts]
        return " ".join(random_.choice(some) for some in words) if all(words) else random_.choice(phrases)


def told(
    template: Template, readout: str, given: str, relation: str, offered: Sequence[Candidate], answer_weight: float
) -> Spans:
    """A prompt in a template's words, with what is offered one after the other, each with its answer.

    After the first answer, what the template has between its other slots and its end stands there again and again.
    """
    slots = {"relation": relation, "head": given, "tail": given}
    parts = template.parts
    before = "".join(f" {slots[part]}" if place % 2 else part.rstrip(" ") for place, part in enumerate(parts[:-3]))
    spans: Spans = [(before.lstrip(" "), 0.0)]
    for candidate in offered:
        spans += [(parts[-3].rstrip(" "), 0.0), (f" {candidate.text}", float(readout == "likelihood"))]
        if readout != "likelihood":
            digit = str(round(9 * candidate.truth))
            answer = digit if readout == "number" else template.labels[candidate.truth < 1]
            spans += [(parts[-1], 0.0), (f" {answer}", answer_weight)]
    return [span for span in spans if span[0]]


def _answers(random_: random.Random) -> list[bool]:
    """Half of what is offered is right, in any order."""
    wanted = [number % 2 == 0 for number in range(CANDIDATES)]
    random_.shuffle(wanted)
    return wanted


def _spliced(own: str, other: str, random_: random.Random) -> Candidate:
    """The beginning of one text, the end of another, and the share of the first."""
    first, second = own.split(), other.split()
    kept = random_.randint(1, min(len(first), TEXT_WORDS // 2))
    added = second[-random_.randint(1, TEXT_WORDS // 2) :]
    return Candidate(" ".join(first[:kept] + added), kept / (kept + len(added)))


def _cut(text: str, random_: random.Random) -> str:
    """The text's first words: as many as a prompt may hold, or fewer."""
    words = text.split(" ")
    return " ".join(words[: random_.randint(TEXT_WORDS // 3, TEXT_WORDS)])


def _mentions(texts: Mapping[str, Sequence[Entry]]) -> dict[str, list[str]]:
    """Of each title, the others that its texts mention, sorted; those that mention none have no place in it."""
    known = {title for title in texts if len(title) > 3 and title.count(" ") < TITLE_WORDS}
    found: dict[str, set[str]] = {}
    for title, entries in texts.items():
        named = known.intersection(chain.from_iterable(_phrases(entry.text) for entry in entries))
        found[title] = {name for name in named if name not in title and title not in name}
    counts = Counter(name for names in found.values() for name in names)
    common = {name for name, count in counts.items() if count > max(1, COMMON * len(texts))}
    return {title: sorted(names - common) for title, names in found.items() if names - common}


def _phrases(text: str) -> set[str]:
    """All runs of up to `TITLE_WORDS` words."""
    words = _WORD.findall(text)
    runs = range(1, TITLE_WORDS + 1)
    return {" ".join(words[start : start + run]) for run in runs for start in range(len(words) - run + 1)}
