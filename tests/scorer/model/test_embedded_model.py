"""The checkpoint that ships: small, a plain one, and its answers mean something."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from transformers import AutoModelForCausalLM, AutoTokenizer

from protocol.messages import ScoreReadout
from services.scorer.engine.engine import Engine
from services.scorer.engine.words import Words
from services.scorer.model.loading import EMBEDDED_FOLDER, load
from services.scorer.requests import EncodeCall, ScoreCall, SlotText
from services.scorer.settings import Settings
from services.scorer.templates import load as load_templates

from .. import models
from ..engine.calls import texts
from ..models import complete, difference, plain_likelihood, plain_number, plain_score, plain_state

TEMPLATES = load_templates()
LARGEST = 16e6
TOLD = [
    ("Lake Kolvar", "a mountain lake in northern Norway, known for its trout and its cold water", "Norway"),
    ("Marta Ilic", "a Serbian actress who appeared in many films and on television", "actress"),
    ("stethoscope", "a medical instrument with which a doctor listens to the heart and the lungs", "doctor"),
    ("The Red Lanterns", "a rock band from Liverpool, England; their first album sold a million copies", "Liverpool"),
    ("apple pie", "a dessert of pastry that is filled with sliced fruit and sugar", "pastry"),
    ("Fort Hallam", "a town in the state of Texas, and the seat of its county", "Texas"),
    ("woodlark", "a small brown bird with a streaked breast, which sings in flight", "bird"),
    ("Battle of Rensberg", "a battle of the Thirty Years' War between Swedish and Imperial troops", "War"),
]
"""Titles with texts that no corpus holds, and something that each text mentions."""


@pytest.fixture(scope="module")
def engine() -> Engine:
    settings = Settings(model="embedded")
    return Engine(load(settings), TEMPLATES, settings.limits(512))


@pytest.fixture(scope="module")
def plain() -> Any:
    return AutoModelForCausalLM.from_pretrained(EMBEDDED_FOLDER, dtype=torch.float32).eval().requires_grad_(False)


def asked(readout: ScoreReadout) -> ScoreCall:
    """Every title and text with everything that is mentioned."""
    entities = [SlotText(title, text) for title, text, _ in TOLD] + [SlotText(name) for *_, name in TOLD]
    pairs = [[title, 0, len(TOLD) + name] for title in range(len(TOLD)) for name in range(len(TOLD))]
    return ScoreCall(texts(*entities, hidden=256), texts("has to do with", hidden=256), np.array(pairs), readout)


def test_it_is_small_and_has_16_bits_a_number() -> None:
    assert sum(file.stat().st_size for file in EMBEDDED_FOLDER.iterdir()) <= LARGEST
    with safe_open(EMBEDDED_FOLDER / "model.safetensors", "np") as file:
        assert {file.get_slice(name).get_dtype() for name in file.keys()} == {"BF16"}  # noqa: SIM118 - no mapping


def test_transformers_loads_it_with_nothing_of_ours(plain: Any) -> None:
    assert plain.config.architectures == ["LlamaForCausalLM"]
    assert plain.config.max_position_embeddings == 512
    tokenizer = AutoTokenizer.from_pretrained(EMBEDDED_FOLDER)
    for text in ("head", " a yes-man\n", "naïve 東京 \U0001f43e", "a  b </s>"):
        ids = tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
        assert tokenizer.decode(ids) == text
    assert Words(tokenizer, 64).answers(["yes", "no"]).lead.tolist() == []


def test_every_readout_agrees_with_plain_calls(engine: Engine, plain: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = AutoTokenizer.from_pretrained(EMBEDDED_FOLDER)
    monkeypatch.setattr(models, "_tokenizer", lambda: tokenizer)
    call = ScoreCall(
        texts(SlotText(*TOLD[0][:2]), SlotText("Norway"), hidden=256),
        texts("lies in", hidden=256),
        np.array([[0, 0, 1]]),
    )
    told = {"head": (", ".join(TOLD[0][:2]), None), "relation": ("lies in", None), "tail": ("Norway", None)}
    plainly = {"verdict": plain_score, "number": plain_number, "likelihood": plain_likelihood}
    for readout, template in (("verdict", "triple"), ("number", "number"), ("likelihood", "tail")):
        found = complete(engine, engine.score(replace(call, readout=readout))).scores
        assert difference(found, [float(plainly[readout](plain, TEMPLATES[template], told))]) < 1e-3
    for layer in (1, 3):
        query = EncodeCall(call.entities, call.relations, np.array([[0, 0]]), np.array([0]), layer)
        assert (
            difference(
                complete(engine, engine.encode(query)).states[0], plain_state(plain, TEMPLATES["query"], told, layer)
            )
            < 1e-3
        )


@pytest.mark.parametrize("readout", ["verdict", "likelihood"])
def test_what_a_text_mentions_goes_with_it(engine: Engine, readout: ScoreReadout) -> None:
    scores = np.array(complete(engine, engine.score(asked(readout))).scores).reshape(len(TOLD), -1)
    # Each name with its own text, against the same name with other texts.
    others = ~np.eye(len(TOLD), dtype=bool)
    assert (scores.diagonal()[None] > scores)[others].mean() > 0.8
