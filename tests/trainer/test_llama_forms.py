"""Every form of `llama` through a real scorer, against the same written with plain calls of its model in float64."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from protocol.messages import HEAD, TAIL
from protocol.trainings import LocalSettings, TrainingSettings
from services.scorer.model import random_llama
from services.scorer.settings import Settings
from services.scorer.templates import load
from tests.scorer.models import exact, plain_number, plain_score, plain_state
from tests.scorer.serving import Served, served
from trainer.answers import Answers
from trainer.clients.service import Service
from trainer.graph import Graph
from trainer.interactions import PointwiseLlama, QueryInteraction, Tables, interaction_of
from trainer.interactions.llama_words import WordLlama
from trainer.losses import margin_ranking, self_adversarial
from trainer.model import Model
from trainer.objectives import objective_of
from trainer.prompting import Prompting
from trainer.remote_model import RemoteModel
from trainer.slot_texts import SlotTexts, slot_texts
from trainer.texts import Text, Texts

from .support import batch, float64_tables, queries

SHAPE = {"model": "random", "random_hidden": 16, "random_layers": 2, "threads": 1}
HIDDEN, ENTITIES, RELATIONS = 16, 6, 2
ASKED = queries((5, 1, TAIL), (2, 0, HEAD), (5, 1, HEAD), (5, 0, TAIL), (2, 1, TAIL))
TEMPLATES = load()
TEXTS = SlotTexts(
    [Text(f"thing {e}", f"kind {e % 3}" if e % 2 else None) for e in range(ENTITIES)], [Text("has"), Text("is", "a")]
)


@pytest.fixture(scope="module")
def scorer() -> Iterator[Served]:
    with served(**SHAPE) as running:
        yield running


@pytest.fixture
def client(scorer: Served) -> Iterator[RemoteModel]:
    with Service("scorer", str(scorer.base_url), None, print, give_up_after=20) as service:
        yield RemoteModel(service)


@pytest.fixture(scope="module")
def model() -> Any:
    made, _ = random_llama.build(Settings(**SHAPE))
    return exact(made.eval().requires_grad_(False))


@dataclass
class Plain:
    """The interaction without HTTP, unique rows, packed prompts or gradients made by hand."""

    model: Any
    local: LocalSettings
    texts: SlotTexts | None
    tables: Tables

    def slot(self, part: str, row: int) -> tuple[str | None, Tensor | None]:
        entity = part == "entity"
        table, count = (self.tables.entities, ENTITIES) if entity else (self.tables.relations, RELATIONS)
        said = None
        if self.texts:
            text = (self.texts.entities if entity else self.texts.relations)[row % count]
            said = f"{text.label}, {text.description}" if text.description else text.label
        if not self.local.vectors:
            return said, None
        weight = self.tables.dense.get(f"adapter.{part}")
        vectors = table[row] if weight is None else weight @ table[row]
        return said, vectors.reshape(-1, HIDDEN)

    def query(self) -> Tensor:
        """[q, dim]."""
        found = []
        for given, relation, side in zip(ASKED.given, ASKED.relation, ASKED.side, strict=True):
            slots = {"relation": self.slot("relation", relation + RELATIONS * (side == HEAD))}
            slots["head" if side == TAIL else "tail"] = self.slot("entity", given)
            layer = {"last": None, "middle": 1}.get(self.local.layer, self.local.layer)
            state = plain_state(self.model, TEMPLATES[self.local.prompts[side]], slots, layer)
            if layer is not None:
                state = state / state.pow(2).mean().sqrt()
            found.append(state)
        weight = self.tables.dense.get("adapter.state")
        states = torch.stack(found)
        return states if weight is None else states @ weight.T

    def score(self, head: int, relation: int, tail: int) -> Tensor:
        """A scalar."""
        slots = {"head": self.slot("entity", head), "tail": self.slot("entity", tail)}
        slots["relation"] = self.slot("relation", relation)
        if self.local.readout == "verdict":
            return plain_score(self.model, TEMPLATES["triple"], slots)
        return plain_number(self.model, TEMPLATES["number"], slots)


def tables_of(local: LocalSettings, interaction: Any, dim: int, dtype: torch.dtype) -> Tables:
    relations = RELATIONS * (2 if interaction.reciprocal else 1)
    dense = interaction.dense(dim, local)
    made = float64_tables(ENTITIES, relations, dim, interaction.relation_width(dim), dense)

    def cast(x: Tensor) -> Tensor:
        return (x.detach() / 2).to(dtype).requires_grad_()

    return Tables(cast(made.entities), cast(made.relations), {n: cast(t) for n, t in made.dense.items()})


def same_gradients(ours: Tables, reference: Tables, unmoved: set[str]) -> None:
    for name in ("entities", "relations", *reference.dense):
        one, other = (
            {"entities": t.entities, "relations": t.relations, **t.dense}[name].grad for t in (ours, reference)
        )
        if name in unmoved:
            assert one is None
            assert other is None
            continue
        assert one is not None
        assert other is not None
        assert other.abs().max() > 1e-4, name
        torch.testing.assert_close(
            one.to_dense().double(), other, rtol=1e-3, atol=1e-4, msg=lambda text, n=name: f"{n}: {text}"
        )


FORMS: dict[str, tuple[dict[str, Any], int]] = {
    "vectors": ({"vectors_per_slot": 3}, 4),
    "vectors, after a middle layer": ({"vectors_per_slot": 2, "layer": "middle"}, 4),
    "names and vectors": ({"texts": "names", "vectors_per_slot": 2, "layer": 1}, 4),
    "the user's choice of templates": ({"vectors_per_slot": 2, "templates": ["tail", "head"]}, 4),
    "a local adapter": ({"texts": "names", "adapter": "local"}, 4),
    "no adapter": ({"adapter": "none"}, HIDDEN),
    "words alone": ({"texts": "descriptions", "vectors": False}, 4),
    "words alone, after a middle layer": ({"texts": "anonymised", "vectors": False, "layer": 1}, 4),
    "words alone, without an adapter": ({"texts": "names", "vectors": False, "adapter": "none"}, HIDDEN),
}


@pytest.mark.parametrize("form", FORMS)
def test_states_and_their_gradients_are_those_of_plain_autograd(client: RemoteModel, model: Any, form: str) -> None:
    local, dim = LocalSettings(**FORMS[form][0]), FORMS[form][1]
    texts = TEXTS if local.texts != "none" else None
    interaction = interaction_of("llama", client, local, prompting=Prompting(texts))
    assert isinstance(interaction, QueryInteraction)
    ours, reference = (tables_of(local, interaction, dim, dtype) for dtype in (torch.float32, torch.float64))
    asked = batch(type(ASKED)(ASKED.given, ASKED.relation + RELATIONS * (ASKED.side == HEAD), ASKED.side))
    found = interaction.scores(ours, asked)
    expected = Plain(model, local, texts, reference).query() @ reference.entities.T
    torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-4)
    weights = torch.randn(found.shape, generator=torch.Generator().manual_seed(2))
    (found * weights).sum().backward()
    (expected * weights).sum().backward()
    same_gradients(ours, reference, unmoved=set() if local.vectors else {"relations"})


def test_a_description_that_was_cut_here_reads_as_the_whole_one(client: RemoteModel) -> None:
    """The scorer cuts by tokens, of which no word has less than one."""
    told = " ".join(f"w{number}" for number in range(200))
    local = LocalSettings(texts="descriptions", vectors=False)
    settings = TrainingSettings(interaction="llama", scorer=client.identity(local), local=local)
    graph = Graph.from_names({"train": [("a", "r", "b")]})
    cut = slot_texts(settings, graph, Texts({"a": Text("a", told), "b": Text("b", told)}))
    assert cut is not None
    assert len(str(cut.entities[0].description).split()) == client.info.description_tokens < 200
    whole = SlotTexts([Text("a", told), Text("b", told)], [Text("r")])
    asked, states = batch(queries((0, 0, TAIL), (1, 0, TAIL))), []
    for texts in (whole, cut):
        interaction = WordLlama(client, local, Prompting(texts))
        states.append(interaction.states(tables_of(local, interaction, 4, torch.float32), asked))
    torch.testing.assert_close(*states, rtol=0, atol=1e-6)


POINTWISE: dict[str, dict[str, Any]] = {
    "verdict": {"readout": "verdict", "vectors_per_slot": 2},
    "number": {"readout": "number"},
    "verdict with names": {"readout": "verdict", "texts": "names"},
    "verdict without an adapter": {"readout": "verdict", "adapter": "none"},
}


def pointwise(client: RemoteModel, form: dict[str, Any]) -> tuple[PointwiseLlama, LocalSettings, SlotTexts | None, int]:
    local = LocalSettings(**form)
    texts = TEXTS if local.texts != "none" else None
    interaction = interaction_of("llama", client, local, prompting=Prompting(texts))
    assert isinstance(interaction, PointwiseLlama)
    return interaction, local, texts, HIDDEN if local.adapter == "none" else 4


@pytest.mark.parametrize("form", POINTWISE)
def test_ranking_asks_for_every_triple(
    client: RemoteModel, model: Any, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainer.interactions.llama_pointwise.TRIPLES_AT_ONCE", 7)
    interaction, local, texts, dim = pointwise(client, POINTWISE[form])
    ours, reference = (tables_of(local, interaction, dim, dtype) for dtype in (torch.float32, torch.float64))
    with torch.no_grad():
        found = interaction.scores(ours, batch(ASKED))
    plain = Plain(model, local, texts, reference)
    for i, (given, relation, side) in enumerate(zip(ASKED.given, ASKED.relation, ASKED.side, strict=True)):
        for candidate in range(ENTITIES):
            head, tail = (given, candidate) if side == TAIL else (candidate, given)
            assert float(found[i, candidate]) == pytest.approx(plain.score(head, relation, tail).item(), abs=1e-4)


def of_pairs(name: str, scores: Tensor, local: LocalSettings) -> Tensor:
    """The loss of scores [pairs, 1 + negatives], the answer's first."""
    if name == "cross_entropy":
        return -scores.log_softmax(dim=1)[:, 0].mean()
    if name == "margin_ranking":
        return margin_ranking(scores[:, 0], scores[:, 1:], local.margin)
    return self_adversarial(scores[:, 0], scores[:, 1:], local.temperature)


@pytest.mark.parametrize("form", POINTWISE)
@pytest.mark.parametrize("loss", ["self_adversarial", "margin_ranking", "cross_entropy"])
@pytest.mark.parametrize("most", [1 << 14, 8])
def test_a_step_and_its_gradient_are_those_of_plain_autograd(
    client: RemoteModel, model: Any, form: str, loss: str, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where it takes several calls."""
    limits = client.info.limits.model_copy(update={"max_prompts": most})
    client.info = client.info.model_copy(update={"limits": limits})
    interaction, local, texts, dim = pointwise(
        client, {**POINTWISE[form], "loss": loss, "negatives": 3, "margin": 1.0, "temperature": 2.0}
    )
    answers = Answers.of(np.array([[0, 0, 1], [2, 1, 3], [5, 0, 4], [0, 1, 1]]))
    ours, reference = (tables_of(local, interaction, dim, dtype) for dtype in (torch.float32, torch.float64))
    arrays = [x.detach().numpy() for x in (ours.entities, ours.relations)]
    trained = Model(interaction, *arrays, {name: x.detach().numpy() for name, x in ours.dense.items()})
    objective, drawn = objective_of(trained, answers, local, torch.Generator().manual_seed(3)), []
    draw = objective.sampler.own  # type: ignore[attr-defined]
    monkeypatch.setattr(objective.sampler, "own", lambda *given: drawn.append(draw(*given)) or drawn[-1])  # type: ignore[attr-defined]
    items = np.array([6, 0, 3, 5, 1])
    found = objective.loss(items)
    found.backward()
    plain, rows = Plain(model, local, texts, reference), []
    for i, item in enumerate(items):
        query = int(np.searchsorted(answers.offsets, item, side="right")) - 1
        given, relation, side = (int(c[query]) for c in vars(answers.queries).values())
        known = answers.entities[answers.offsets[query] : answers.offsets[query + 1]]
        assert not set(drawn[0][i].tolist()) & set(known.tolist())
        candidates = [int(answers.entities[item]), *drawn[0][i].tolist()]
        pairs = [(given, c) if side == TAIL else (c, given) for c in candidates]
        rows.append(torch.stack([plain.score(head, relation, tail) for head, tail in pairs]))
    expected = of_pairs(loss, torch.stack(rows), local)
    expected.backward()
    assert found.item() == pytest.approx(expected.item(), rel=1e-4)
    same_gradients(trained.tables, reference, unmoved=set())


def test_one_step_is_one_call(client: RemoteModel, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    call: Callable[..., bytes] = client.service.tensors
    monkeypatch.setattr(client.service, "tensors", lambda m, path, body: asked.append(path) or call(m, path, body))
    interaction, local, _, dim = pointwise(client, POINTWISE["verdict"])
    tables = tables_of(local, interaction, dim, torch.float32)
    arrays = [x.detach().numpy() for x in (tables.entities, tables.relations)]
    trained = Model(interaction, *arrays, {name: x.detach().numpy() for name, x in tables.dense.items()})
    answers = Answers.of(np.array([[0, 0, 1], [2, 1, 3]]))
    objective_of(trained, answers, local, torch.Generator()).loss(np.arange(4)).backward()
    assert asked == ["/score/gradient"]
