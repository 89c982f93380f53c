"""The scorer as a judge of shortlists: it is told triples in words, and says how plausible each is.

`/score` is asked rather than `/rank`: one call holds the lists of many queries, and a score belongs to one triple, so
that `kept_scores` can keep it. Each side has the template whose last slot is the one that is asked for, as `/rank` has
it; the candidates of a query then share all that stands before them.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from protocol.messages import HEAD, TAIL, Slot
from protocol.scoring import ScoreReply, ScoreRequest
from trainer.answers import Ints
from trainer.clients.scorer import Scorer
from trainer.clients.service import Service
from trainer.graph import Graph
from trainer.kept_scores import KeptScores, Scores
from trainer.remote_model import WrongScorer
from trainer.reports import Report
from trainer.shortlists import Floats, Shortlists
from trainer.texts import Texts

JudgeReadout = Literal["verdict", "likelihood"]
TextsName = Literal["names", "descriptions"]

TEMPLATES: dict[JudgeReadout, dict[int, str]] = {
    "verdict": {TAIL: "triple", HEAD: "triple_head"},
    "likelihood": {TAIL: "tail", HEAD: "head"},
}
TRIPLES_A_CALL = 512
CALLS_A_SAVE = 16
ENVELOPE_BYTES = 1 << 12
"""Room in a body for what stands around the triples, and in a triple for its indices."""


@dataclass(frozen=True)
class Words:
    """What a graph's entities and relations are called, and perhaps what is said of them, by row."""

    entities: list[Slot]
    relations: list[Slot]

    @classmethod
    def of(cls, texts: Texts, graph: Graph, kind: TextsName) -> "Words":
        """The labels, or ids made readable, and for `descriptions` those that there are."""
        entities, relations = (
            [Slot(name=t.label, description=t.description if kind == "descriptions" else None) for t in column]
            for column in texts.of(graph.entities, graph.relations)
        )
        return cls(entities, relations)

    @property
    def digest(self) -> str:
        """SHA-256 over all of them in their order."""
        rows = [[[slot.name, slot.description] for slot in slots] for slots in (self.entities, self.relations)]
        return hashlib.sha256(json.dumps(rows).encode()).hexdigest()


@dataclass
class Cost:
    """What judging took.

    Attributes:
        scored: Triples that the scorer scored.
        kept: Others, whose scores were on disk.
        unread: Triples whose answer it could not read.
        tokens: Positions in its prompts.
        shared_tokens: Those of them that it did not compute again.
    """

    scored: int = 0
    kept: int = 0
    unread: int = 0
    tokens: int = 0
    shared_tokens: int = 0


class Judge:
    """Scores what is on shortlists.

    Args:
        service: Where the scorer is.
        readout: How it is read.
        words: Of the graph that lists are of.
        cache: Folder that keeps scores.
        now: Told what is being done.

    Attributes:
        info: What the scorer says of itself.
        template_hashes: Of the templates of both sides, by name.
        cost: So far.

    Raises:
        WrongScorer: The scorer's model cannot be read so; or, later, another one has taken its place.
        ServiceUnreachable, ProblemError: As `Service` says; every call may.
    """

    def __init__(self, service: Service, readout: JudgeReadout, words: Words, cache: Path, now: Report) -> None:
        self._scorer, self._url = Scorer(service), service.url
        self._readout, self._words, self._now = readout, words, now
        self.info = self._scorer.info()
        self.template_hashes = {name: self._template_hash(name) for name in TEMPLATES[readout].values()}
        self.cost, self._kept = Cost(), {side: self._kept_scores(side, cache) for side in (TAIL, HEAD)}
        # Each triple is asked and counted once, whichever lists it is on.
        self._met = {side: np.empty(0, dtype=np.int64) for side in (TAIL, HEAD)}

    def scores(self, lists: Shortlists) -> Floats:
        """Scores of all members, float64 [i, size]; one that could not be read is the lowest of those of its list."""
        row, column = np.nonzero(lists.filled)
        queries, members = lists.queries[row], lists.members[row, column]
        keys = (queries.given * len(self._words.relations) + queries.relation) * len(self._words.entities) + members
        scores = np.full(lists.members.shape, np.nan)
        for side in (TAIL, HEAD):
            asked = queries.side == side
            scores[row[asked], column[asked]] = self._scores(keys[asked], side)
        lowest = np.min(scores, axis=1, keepdims=True, initial=np.inf, where=~np.isnan(scores))
        filled: Floats = np.where(np.isnan(scores), np.where(np.isinf(lowest), 0.0, lowest), scores)
        return filled

    def _scores(self, keys: Ints, side: int) -> Scores:
        """Of questions, float32 [n]; NaN where an answer could not be read."""
        kept, new = self._kept[side], np.setdiff1d(keys, self._met[side])
        self._met[side] = np.union1d(self._met[side], new)
        missing = new[np.isnan(kept.find(new))]
        self.cost.kept += len(new) - len(missing)
        try:
            for number, part in enumerate(self._parts(missing)):
                self._now(f"asking the scorer about {'tails' if side == TAIL else 'heads'}: "
                          f"{part.start} of {len(missing)} triples scored")  # fmt: skip
                kept.add(missing[part], self._ask(missing[part], side))
                if (number + 1) % CALLS_A_SAVE == 0:
                    kept.save()
        finally:  # what was paid for is kept, also where the scorer fails or the user has had enough
            if len(missing):
                kept.save()
        return kept.find(keys)

    def _parts(self, keys: Ints) -> Iterator[slice]:
        """Questions in parts that are within the limits."""
        limits = self.info.limits
        widest = [max(len(slot.model_dump_json().encode()) for slot in slots) for slots in vars(self._words).values()]
        most = min(
            TRIPLES_A_CALL,
            limits.max_prompts,
            limits.max_slots // 2,
            limits.max_call_tokens // limits.max_prompt_tokens,
            (limits.max_body_bytes - ENVELOPE_BYTES) // (2 * widest[0] + widest[1] + 64),
        )
        for start in range(0, len(keys), max(1, most)):
            yield slice(start, min(start + max(1, most), len(keys)))

    def _ask(self, keys: Ints, side: int) -> Scores:
        rest, candidate = np.divmod(keys, len(self._words.entities))
        given, relation = np.divmod(rest, len(self._words.relations))
        entities, columns = np.unique(np.stack([given, candidate]), return_inverse=True)
        first, last = columns.reshape(2, -1)[:: 1 if side == TAIL else -1].tolist()
        relations, between = np.unique(relation, return_inverse=True)
        request = ScoreRequest(
            entities=[self._words.entities[row] for row in entities],
            relations=[self._words.relations[row] for row in relations],
            triples=list(zip(first, between.tolist(), last, strict=True)),
            readout=self._readout,
            template=TEMPLATES[self._readout][side],
        )
        reply = self._scorer.score(request)
        self._check(reply, len(keys), side)
        scores = np.array(reply.scores, dtype=np.float32)  # None becomes NaN
        self.cost.scored += len(keys)
        self.cost.unread += int(np.isnan(scores).sum())
        self.cost.tokens += reply.usage.tokens
        self.cost.shared_tokens += reply.usage.shared_tokens
        return scores

    def _check(self, reply: ScoreReply, count: int, side: int) -> None:
        made_by = (self.info.model, self.info.revision, self._hash(side))
        if (reply.model, reply.revision, reply.template_hash) != made_by:
            raise WrongScorer(
                f"the scorer at {self._url} serves another model or template than when this ranking began; "
                "start again: what was scored is kept by model"
            )
        if len(reply.scores) != count or any(score in (np.inf, -np.inf) for score in reply.scores):
            raise WrongScorer(f"the scorer at {self._url} did not answer with {count} finite scores")

    def _hash(self, side: int) -> str:
        return self.template_hashes[TEMPLATES[self._readout][side]]

    def _template_hash(self, name: str) -> str:
        template = self.info.templates.get(name)
        if template is None or self._readout not in template.readouts:
            raise WrongScorer(
                f"the scorer at {self._url} has no readout {self._readout} with the template {name!r}; "
                "GET /info there lists what its model can be read by"
            )
        return template.hash

    def _kept_scores(self, side: int, cache: Path) -> KeptScores:
        """Whatever a score depends on is in the name of its file."""
        origin = self.info.model_dump(include={"backend", "model", "revision", "dtype", "quantization"})
        origin |= {"readout": self._readout, "template_hash": self._hash(side), "texts": self._words.digest}
        origin |= {"description_tokens": self.info.description_tokens}
        name = hashlib.sha256(json.dumps(origin, sort_keys=True).encode()).hexdigest()[:32]
        return KeptScores(cache / f"{name}.safetensors", origin)
