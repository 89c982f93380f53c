"""From a call to prompts: what stands in them, what they share, and how they are cut into pieces.

All of it is arithmetic on row numbers; no model runs here, so that it may happen beside one that does.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from protocol.encoding import Layer
from protocol.info import Limits
from protocol.messages import HEAD, TAIL, Readout, Usage
from protocol.problems import InvalidRequest
from services.scorer.engine.prompts import Bank, lay_out
from services.scorer.engine.readouts import DIGITS
from services.scorer.engine.trees import Part, Piece, Prompts, Root
from services.scorer.engine.words import Answers, NoSingleTokens, Words
from services.scorer.requests import EncodeCall, Ints, ScoreCall, Slots, SlotText, check_limit
from services.scorer.templates import ASKS, DEFAULTS, Template

log = logging.getLogger(__name__)

Budget = Callable[[int, int], int]
"""How many tokens may run at once, given the longest prompt and the number of layers."""


@dataclass(frozen=True)
class Compiled:
    """A template in token ids.

    Attributes:
        start: What all its prompts begin with.
        root: Where that lies in the table of positions.
        slots: The slots in their order.
        after: The words after each slot.
        answers: For each readout that compares answers, their tokens.
    """

    template: Template
    start: Ints
    root: Root
    slots: list[str]
    after: list[Ints]
    answers: dict[Readout, Answers]


@dataclass(frozen=True)
class Group:
    """The prompts of a call that share a template; `numbers` is int64 [B], which of the call's prompts they are."""

    compiled: Compiled
    numbers: Ints
    prompts: Prompts


@dataclass(frozen=True)
class Plan:
    """A call, laid out and within the limits.

    Attributes:
        bank: Where its input vectors lie.
        slots: Its entities and relations.
        groups: Its prompts.
        pieces: All prompts of all groups, cut, each with its group.
        at_once: Tokens that may run together, by which they were cut.
        depth: Layers to run.
        answers: For `likelihood`, the token ids that each prompt asks for.
    """

    bank: Bank
    slots: tuple[Slots, Slots]
    groups: list[Group]
    pieces: list[tuple[Group, Piece]]
    at_once: int
    depth: int
    usage: Usage
    answers: list[Ints] | None = None


class Planner:
    """Makes plans for one model. Nothing here changes after the start.

    Attributes:
        templates: Those that the model's tokenizer can be read for, compiled.
    """

    def __init__(self, words: Words, limits: Limits, depth: int) -> None:
        self._words, self._limits, self._depth = words, limits, depth
        self.templates: dict[str, Compiled] = {}

    def start(self, template: Template) -> Ints:
        """The ids of what all prompts of a template begin with."""
        return self._words.start(template.parts[0])

    def add(self, name: str, template: Template, root: Root, *, shipped: bool) -> None:
        """Compile a template, whose first words lie in the table at `root`.

        Raises:
            NoSingleTokens: The tokenizer cannot tell its answers apart. Of one that ships, only that readout is lost.
        """
        words = [self._words.constant(part) for part in template.parts[2::2]]
        answers: dict[Readout, Answers] = {}
        readouts = list(template.readouts)
        for readout, labels in (("verdict", list(template.labels)), ("number", DIGITS)):
            if readout not in readouts:
                continue
            try:
                answers[readout] = self._words.answers(labels)
            except NoSingleTokens as error:
                if not shipped:
                    raise
                log.warning("the template %r cannot be used for %s: %s", name, readout, error)
                readouts.remove(readout)
        if readouts:
            usable = template.model_copy(update={"readouts": readouts})
            start = self.start(template)
            self.templates[name] = Compiled(usable, start, root, template.parts[1::2], words, answers)

    def chosen(self, name: str | None, readout: Readout, side: int, field: str = "template") -> str:
        """The template that a call names, or the readout's own for the side.

        Raises:
            InvalidRequest: There is none of that name, or it is not made for the readout or the side.
        """
        name = DEFAULTS[readout, side] if name is None else name
        usable = [n for n, c in self.templates.items() if readout in c.template.readouts]
        if name not in usable:
            raise InvalidRequest.of(
                field, f"{name!r} is no template for the readout {readout}; there is {', '.join(usable) or 'none'}"
            )
        return name

    def score(self, call: ScoreCall, side: int, tokens: Budget, units: Ints | None = None) -> Plan:
        """Prompts that ask for a number a triple.

        Args:
            call: Within the limits that need no tokenizer.
            side: Of the readout's own template, where the call names none.
            tokens: How many may run at once.
            units: int64 [t], triples of equal numbers should run together.

        Raises:
            InvalidRequest: A text has no tokens, or `likelihood` is asked of a slot without a name.
            BodyTooLarge: The prompts are over a limit of tokens.
        """
        compiled = self.templates[self.chosen(call.template, call.readout, side)]
        columns = dict(zip(("head", "relation", "tail"), call.triples.T, strict=True))
        numbers = np.arange(len(call.triples))
        names = self._asked(call, compiled, columns) if call.readout == "likelihood" else []
        bank = self._bank(call, [compiled], names)
        chunks = self._chunks(bank, compiled, call.readout, columns)
        reads = np.ones(len(numbers), dtype=np.int64)
        if call.readout == "likelihood":
            which = columns[compiled.template.asks]
            chunks.append([Part(bank.lists([ids[:-1] for ids in names]), which)])
            reads = np.array([len(ids) for ids in names])[which]
        prompts = Prompts(compiled.root, chunks, reads, share=self._depth > 1, units=units)
        answers = [names[row] for row in columns[compiled.template.asks].tolist()] if names else None
        return self._plan(call, bank, [Group(compiled, numbers, prompts)], self._depth, tokens, answers)

    def encode(self, call: EncodeCall, tokens: Budget) -> Plan:
        """Prompts whose ends are states. Raises as `score` does."""
        depth = self._layer(call.layer)
        names = call.templates or (None, None)
        compiled = {}
        for side in (TAIL, HEAD):
            name = self.chosen(names[side], "state", side, f"templates.{side}")
            if (call.sides == side).any():
                compiled[side] = self._for_side(name, side)
        bank = self._bank(call, list(compiled.values()), [])
        groups = []
        for side, template in compiled.items():
            numbers = np.flatnonzero(call.sides == side)
            entities, relations = call.queries[numbers].T
            chunks = self._chunks(bank, template, "state", {ASKS[1 - side]: entities, "relation": relations})
            reads = np.ones(len(numbers), dtype=np.int64)
            groups.append(Group(template, numbers, Prompts(template.root, chunks, reads, share=depth > 1)))
        return self._plan(call, bank, groups, depth, tokens, None)

    def _layer(self, layer: Layer | str) -> int:
        if layer == "last":
            return self._depth
        if layer == "middle":
            return max(1, self._depth // 2)
        if not 1 <= int(layer) <= self._depth:
            raise InvalidRequest.of("layer", f"{layer} is not among the model's layers, 1 to {self._depth}")
        return int(layer)

    def _for_side(self, name: str, side: int) -> Compiled:
        compiled = self.templates[name]
        if compiled.template.asks != ASKS[side]:
            asks = f"{name!r} asks for the {compiled.template.asks}, not for the {ASKS[side]}"
            raise InvalidRequest.of(f"templates.{side}", asks)
        return compiled

    def _bank(self, call: ScoreCall | EncodeCall, compiled: Sequence[Compiled], names: Sequence[Ints]) -> Bank:
        ids = [ids for c in compiled for ids in (*c.after, *(answers.lead for answers in c.answers.values()))]
        return lay_out(call.entities, call.relations, self._words, [*ids, *names])

    def _chunks(
        self, bank: Bank, compiled: Compiled, readout: Readout, columns: Mapping[str, Ints]
    ) -> list[list[Part]]:
        """A slot and the words after it, for each slot that is given; `verdict` and `number` end with their lead."""
        whole = readout in compiled.answers
        chunks = []
        for slot, ids in zip(compiled.slots, compiled.after, strict=True):
            if slot == compiled.template.asks:
                if not whole:
                    break
                ids = np.concatenate([ids, compiled.answers[readout].lead])
            rows = bank.relations if slot == "relation" else bank.entities
            which = columns[slot]
            chunks.append([Part(rows, which), Part(bank.constant(ids), np.zeros(len(which), dtype=np.int64))])
        return chunks

    def _asked(self, call: ScoreCall, compiled: Compiled, columns: Mapping[str, Ints]) -> list[Ints]:
        """The token ids of the names of all rows that may be asked for; rows that are not asked for get none."""
        asks = compiled.template.asks
        field, slots = ("relations", call.relations) if asks == "relation" else ("entities", call.entities)
        names: list[Ints] = [np.zeros(0, dtype=np.int64)] * len(slots)
        rows = np.unique(columns[asks]).tolist()
        texts = [slots.texts.get(row, SlotText()) for row in rows]
        for row, text in zip(rows, texts, strict=True):
            if slots.counts[row] or text.numbers or not (text.name or text.description):
                raise InvalidRequest.of(f"{field}.{row}", "is asked for by likelihood: it needs text, and no vectors")
        for row, ids in zip(rows, self._words.slots([SlotText(t.name or t.description) for t in texts]), strict=True):
            if not len(ids):
                raise InvalidRequest.of(f"{field}.{row}", "its text has no tokens; give text that is not blank")
            names[row] = ids
        return names

    def _plan(
        self,
        call: ScoreCall | EncodeCall,
        bank: Bank,
        groups: list[Group],
        depth: int,
        budget: Budget,
        answers: list[Ints] | None,
    ) -> Plan:
        longest = max(group.prompts.longest for group in groups)
        check_limit("tokens in one prompt", longest, "max_prompt_tokens", self._limits.max_prompt_tokens)
        tokens = sum(group.prompts.tokens for group in groups)
        check_limit("tokens in one call", tokens, "max_call_tokens", self._limits.max_call_tokens)
        at_once = budget(longest, depth)
        pieces = [(group, piece) for group in groups for piece in group.prompts.pieces(at_once)]
        ran = sum(piece.tokens for _, piece in pieces)
        count = sum(len(group.numbers) for group in groups)
        usage = Usage(prompts=count, tokens=tokens, shared_tokens=max(0, tokens - ran))
        return Plan(bank, (call.entities, call.relations), groups, pieces, at_once, depth, usage, answers)
