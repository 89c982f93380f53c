"""Calls with slots of every kind, and what plain transformers calls, one a prompt, make of them."""

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from protocol.messages import TAIL
from protocol.scoring import Loss
from services.scorer.engine.engine import Engine
from services.scorer.engine.tasks import Task
from services.scorer.requests import EncodeCall, Ints, ScoreCall, Slots, SlotText
from services.scorer.results import Gradients
from services.scorer.settings import Settings
from services.scorer.templates import ASKS, DEFAULTS, Template, load

from ..models import (
    LLAMA3_ROPE,
    Slot,
    difference,
    exact,
    loaded,
    plain_likelihood,
    plain_number,
    plain_score,
    plain_state,
    tiny,
)

LIMITS = Settings().limits(2048)
SHAPES: dict[str, dict[str, Any]] = {
    "one layer": dict(layers=1, kv_heads=4),
    "one layer, grouped queries": dict(layers=1, kv_heads=1),
    "two layers, grouped queries": dict(layers=2, kv_heads=2),
    "three layers, grouped queries, scaled rotation": dict(layers=3, kv_heads=1, rope=LLAMA3_ROPE),
}
DEEP = "three layers, grouped queries, scaled rotation"
KINDS = ["text", "vectors", "both", "mixed"]
TEXTS = [SlotText("gout"), SlotText("a", "of b"), SlotText(None, "a pain"), SlotText(" yes")]
OWN = {
    "own": Template(text="Of {head} and {relation} it is {tail}, a or b?", readouts=["verdict"], labels=("b", "a")),
    "bare": Template(text="{tail} {relation} {head} or", readouts=["verdict", "number", "state"], labels=("or", "no")),
    "link": Template(text="{head} to {tail} is {relation}", readouts=["likelihood"]),
}
"""Other labels, which follow a common token; no first words; a relation that is asked for."""
TEMPLATES = load() | OWN
TRIPLES = [[0, 0, 1], [0, 0, 2], [1, 2, 3], [4, 1, 4], [5, 0, 0], [0, 0, 1], [2, 2, 1]]
QUERIES = [[0, 0], [1, 2], [4, 1], [5, 0], [2, 2], [0, 0], [0, 0]]
SIDES = [0, 1, 1, 0, 0, 1, 0]


@lru_cache
def exact_model(shape: str = DEEP) -> Any:
    """A model in float64; tests that change one make their own."""
    return exact(tiny(**SHAPES[shape]))


@lru_cache
def model(shape: str = DEEP) -> Any:
    """The same in float32."""
    return tiny(**SHAPES[shape])


@lru_cache
def exact_engine(shape: str = DEEP) -> Engine:
    """An engine of the model in float64, which keeps nothing."""
    return engine(exact_model(shape))


def engine(model: Any, templates: Mapping[str, Template] = TEMPLATES, limits: Any = LIMITS, **given: Any) -> Engine:
    return Engine(loaded(model), templates, limits, **given)


def slots(kind: str, count: int, seed: int, k: int = 2, hidden: int = 32, dtype: str = "f8") -> Slots:
    """Rows of one kind; `mixed` ones of every kind, with different numbers of vectors."""
    texts, counts = {}, []
    for row in range(count):
        chosen = ("text", "vectors", "both")[row % 3] if kind == "mixed" else kind
        if chosen != "vectors":
            texts[row] = TEXTS[(row + seed) % len(TEXTS)]
        counts.append(0 if chosen == "text" else k + (row % 2 if kind == "mixed" else 0))
    vectors = np.random.default_rng(seed).normal(size=(sum(counts), hidden)).astype(dtype)
    return Slots(vectors, np.cumsum(counts) - counts, np.array(counts, dtype=np.int64), texts)


def texts(*said: str | SlotText, hidden: int = 32) -> Slots:
    """Rows that only say something."""
    none = np.zeros(len(said), dtype=np.int64)
    rows = {row: SlotText(text) if isinstance(text, str) else text for row, text in enumerate(said)}
    return Slots(np.zeros((0, hidden), dtype="f8"), none, none, rows)


def score_call(
    kind: str,
    readout: Any = "verdict",
    template: str | None = None,
    triples: Sequence[Sequence[int]] = TRIPLES,
    keep: bool = False,
    seed: int = 1,
    **given: Any,
) -> ScoreCall:
    """Triples that share and repeat, of 7 entities and 3 relations; the last entity is in none of them."""
    entities, relations = slots(kind, 7, seed, **given), slots(kind, 3, seed + 100, **given)
    return ScoreCall(entities, relations, np.array(triples), readout, template, keep)


def encode_call(
    kind: str,
    layer: str | int = "last",
    templates: tuple[str, str] | None = None,
    keep: bool = False,
    seed: int = 3,
    **given: Any,
) -> EncodeCall:
    """Queries of both sides, which share and repeat, of 6 entities and 4 relations; the last relation is in none."""
    entities, relations = slots(kind, 6, seed, **given), slots(kind, 4, seed + 100, **given)
    return EncodeCall(entities, relations, np.array(QUERIES), np.array(SIDES), layer, templates, keep)


def named_call(template: str | None = None, names: Sequence[str] = ("gout", "yes", "an ache", "no")) -> ScoreCall:
    """Triples whose tails and relations have names, for `likelihood`; other entities have vectors, or vectors too."""
    entities, relations = slots("mixed", 6, seed=5), texts(SlotText("r"), SlotText("is", "that"), SlotText("or"))
    first = len(entities)
    said = entities.texts | {first + row: SlotText(name, "never read") for row, name in enumerate(names)}
    none = np.zeros(len(names), dtype=np.int64)
    starts, counts = np.append(entities.starts, none), np.append(entities.counts, none)
    rows = [[row % 4, row % 3, first + row % len(names)] for row in range(9)]
    return ScoreCall(Slots(entities.vectors, starts, counts, said), relations, np.array(rows), "likelihood", template)


def leaves(call: ScoreCall | EncodeCall) -> list[Tensor]:
    """The vectors of the entities and of the relations, to differentiate with respect to."""
    return [torch.from_numpy(rows.vectors).clone().requires_grad_() for rows in (call.entities, call.relations)]


def plain_scores(model: Any, call: ScoreCall, vectors: Sequence[Tensor] = (), side: int = TAIL) -> Tensor:
    """[t], one call of the model a triple."""
    template = TEMPLATES[call.template or DEFAULTS[call.readout, side]]
    prompts = filled(call, vectors or [leaf.detach() for leaf in leaves(call)])
    if call.readout != "likelihood":
        plain = plain_score if call.readout == "verdict" else plain_number
        return torch.stack([plain(model, template, prompt) for prompt in prompts])
    places = call.triples[:, ["head", "relation", "tail"].index(template.asks)].tolist()
    said = [(call.relations if template.asks == "relation" else call.entities).texts[place] for place in places]
    names = [{template.asks: ((text.name or text.description or "").strip(), None)} for text in said]
    return torch.stack([plain_likelihood(model, template, p | n) for p, n in zip(prompts, names, strict=True)])


def filled(call: ScoreCall, vectors: Sequence[Tensor]) -> Iterator[dict[str, Slot]]:
    """The slots of each triple."""
    for head, relation, tail in call.triples.tolist():
        yield {
            "head": _slot(call.entities, head, vectors[0]),
            "relation": _slot(call.relations, relation, vectors[1]),
            "tail": _slot(call.entities, tail, vectors[0]),
        }


def plain_states(model: Any, call: EncodeCall, vectors: Sequence[Tensor] = (), layer: int | None = None) -> Tensor:
    """[q, hidden], one call of the model a query."""
    vectors = vectors or [leaf.detach() for leaf in leaves(call)]
    states = []
    for (entity, relation), side in zip(call.queries.tolist(), call.sides.tolist(), strict=True):
        name = call.templates[side] if call.templates else DEFAULTS["state", side]
        slots = {
            ASKS[1 - side]: _slot(call.entities, entity, vectors[0]),
            "relation": _slot(call.relations, relation, vectors[1]),
        }
        states.append(plain_state(model, TEMPLATES[name], slots, layer))
    return torch.stack(states)


def _slot(rows: Slots, row: int, vectors: Tensor) -> Slot:
    text, start, count = rows.texts.get(row), rows.starts[row], rows.counts[row]
    said = None if text is None else ", ".join(part.strip() for part in (text.name, text.description) if part)
    return said, vectors[start : start + count] if count else None


def plain_loss(loss: Loss, scores: Tensor, groups: Ints | None = None, labels: Any = None) -> Tensor:
    """The loss as its paper writes it, one group after the other."""
    if labels is not None:
        p = scores.sigmoid()
        y = torch.as_tensor(labels).to(scores)
        return -(y * p.log() + (1 - y) * (1 - p).log()).mean()
    assert groups is not None
    losses, negatives = [], 0
    for number in np.unique(groups):
        positive, *others = scores[torch.from_numpy(np.flatnonzero(groups == number))]
        negative = torch.stack(others)
        negatives += len(negative)
        if loss.name == "cross_entropy":
            losses.append(-torch.cat([positive[None], negative]).log_softmax(0)[0])
        elif loss.name == "margin_ranking":
            losses.append((loss.margin - positive + negative).clamp(min=0).sum())
        else:
            weights = (loss.temperature * negative).softmax(0).detach()
            far = (weights * torch.sigmoid(-loss.margin - negative).log()).sum()
            losses.append(-(torch.sigmoid(loss.margin + positive).log() + far) / 2)
    return torch.stack(losses).sum() / (negatives if loss.name == "margin_ranking" else len(losses))


def off(found: Gradients, vectors: Sequence[Tensor], value: Tensor, given: Any = None) -> float:
    """How far gradients are from those of autograd, at most."""
    wanted = torch.autograd.grad(value, vectors, None if given is None else torch.as_tensor(given), allow_unused=True)
    pairs = zip((found.entities, found.relations), wanted, vectors, strict=True)
    return max(difference(ours, torch.zeros_like(leaf) if w is None else w) for ours, w, leaf in pairs if leaf.numel())


def together(engine: Engine, *tasks: Task) -> list[Any]:
    """Run tasks to their ends, as many of them at once as may run at once."""
    while waiting := [task for task in tasks if task.next]:
        asked = [(task.next.backward, task.plan.depth) for task in waiting if task.next]
        engine.run([task.take() for task, kind in zip(waiting, asked, strict=True) if kind == asked[0]])
    return [task.result() for task in tasks]
