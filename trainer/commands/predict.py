"""Asking a trained model: the most plausible tails or heads of a query."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.table import Table
from rich.text import Text as Shown

from protocol.messages import HEAD, TAIL
from trainer.answers import Queries
from trainer.dataset import read_dataset, texts_of
from trainer.inputs import ScorerAt, UsageError, progress, saved_model
from trainer.output import Output
from trainer.texts import Text, Texts


@dataclass(frozen=True)
class Asked:
    """A query with one end open, as the user wrote it: by ids, or by names where the data has such texts."""

    head: str | None
    relation: str
    tail: str | None

    def by_ids(self, entities: Sequence[str], relations: Sequence[str], texts: Texts) -> "Asked":
        """The same by the ids that a model knows.

        Raises:
            UsageError: It knows none of these, or a name is that of several.
        """
        head, tail = (
            None if end is None else _id_of(end, entities, "entity", texts.entities) for end in (self.head, self.tail)
        )
        return Asked(head, _id_of(self.relation, relations, "relation", texts.relations), tail)

    def triple(self, answer: str) -> tuple[str, str, str]:
        """With an answer in the open place."""
        head, tail = (answer if end is None else end for end in (self.head, self.tail))
        return head, self.relation, tail

    def __str__(self) -> str:
        return f"({', '.join(self.triple('?'))})"


@dataclass(frozen=True)
class Data:
    """What the user's own data says: triples that are known, and how ids are called."""

    known: frozenset[tuple[str, str, str]] = frozenset()
    texts: Texts = field(default_factory=Texts)

    @classmethod
    def of(cls, source: str) -> "Data":
        """Of a folder, a file, or a PyKEEN data set.

        Raises:
            DataError: It cannot be read.
        """
        graph = read_dataset(source)
        return cls(frozenset(triple for split in graph.triples for triple in graph.named(split)), texts_of(source))


def run_predict(
    console: Output,
    folder: Path,
    asked: Asked,
    top: int,
    data: str | None,
    new: bool,
    scorer: ScorerAt,
    device: str,
) -> None:
    """Print the best candidates of one query; with `new` those alone that the data does not hold."""
    if new and data is None:
        raise UsageError("--new leaves out what your data holds: give it as --data")
    if (asked.head is None) == (asked.tail is None):
        raise UsageError("give either --head, to ask for tails, or --tail, to ask for heads")
    own = Data() if data is None else Data.of(data)
    with progress(console) as (say, now), saved_model(folder, scorer, say, now, device) as model:
        now("scoring all candidates")
        entities, relations = model.card.entities, model.card.relations
        asked = asked.by_ids(entities, relations, own.texts)
        given = entities.index(asked.head or asked.tail or ""), relations.index(asked.relation)
        query = (*given, TAIL if asked.tail is None else HEAD)
        scores = model.scorer(Queries(*(np.array([value], dtype=np.int64) for value in query)))[0]
    answers = _answers(asked, scores, entities, own)
    found = list(islice((answer for answer in answers if not (new and answer["known"])), top))
    hidden = {"known"} if data is None else set()
    if not own.texts.entities:
        hidden.add("name")
    best = [{column: value for column, value in answer.items() if column not in hidden} for answer in found]
    content = {"head": asked.head, "relation": asked.relation, "tail": asked.tail, "best": best}
    console.result(content, _table(str(asked), best, hidden | ({"known"} if new else set())))


def _answers(asked: Asked, scores: NDArray[np.float32], entities: Sequence[str], own: Data) -> Iterator[dict[str, Any]]:
    """Every candidate, the best first."""
    for place, entity in enumerate(np.argsort(-scores, kind="stable"), 1):
        id_ = entities[entity]
        text = own.texts.entities.get(id_)
        yield {
            "rank": place,
            "entity": id_,
            "name": text and text.label,
            "score": float(scores[entity]),
            "known": asked.triple(id_) in own.known,
        }


def _table(title: str, best: Sequence[Mapping[str, Any]], hidden: set[str]) -> Table:
    columns = [column for column in ("rank", "entity", "name", "score", "known") if column not in hidden]
    shown = Table(*columns, title=Shown(title))
    for answer in best:
        words = {"score": f"{answer['score']:.3f}", "known": "yes" if answer.get("known") else ""}
        shown.add_row(*(Shown(words.get(column, str(answer[column] or ""))) for column in columns))
    return shown


def _id_of(given: str, ids: Sequence[str], kind: str, texts: Mapping[str, Text]) -> str:
    """What was given, where it is an id; else the id that is called so.

    Raises:
        UsageError: There is none, and close ones are listed; or there are several.
    """
    if given in ids:
        return given
    called = [one for one in ids if one in texts and texts[one].label.casefold() == given.casefold()]
    if len(called) > 1:
        raise UsageError(
            f"{len(called)} of the model's {kind} ids are called {given!r}: {', '.join(called[:5])}; give one"
        )
    if called:
        return called[0]
    words = list(dict.fromkeys([*ids, *(texts[one].label for one in ids if one in texts)]))
    close = ", ".join(([n for n in words if given.lower() in n.lower()] or get_close_matches(given, words))[:5])
    way = f"; close: {close}" if close else "" if texts else "; names can be given where --data has them"
    raise UsageError(f"the model knows no {kind} {given!r}{way}")
