from collections.abc import Iterator
from typing import Any

import pytest
import torch
from transformers import LlamaForCausalLM

from services.scorer.model import random_llama
from services.scorer.service import Service
from services.scorer.settings import Settings

from .models import LLAMA3_ROPE, save, tiny
from .serving import Process, Served, scorer

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    """A client of a scorer with the random model and small limits, a process of its own."""
    limits = {
        "SCORER_MAX_BODY_BYTES": "400000",
        "SCORER_MAX_PROMPTS": "600",
        "SCORER_MAX_SLOTS": "50",
        "SCORER_MAX_VECTORS_PER_SLOT": "8",
        "SCORER_MAX_PROMPT_TOKENS": "300",
        "SCORER_MAX_CALL_TOKENS": "20000",
    }
    with scorer(tmp_path_factory.mktemp("scorer"), **limits) as running:
        yield running


@pytest.fixture(scope="session")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    """A client of a scorer as it is without any setting, with the embedded model, a process of its own."""
    with scorer(tmp_path_factory.mktemp("embedded"), SCORER_MODEL="embedded") as running:
        yield running


class Known(Served):
    """A served model that is also at hand. Attributes: `model`, its plain form; `hidden`, its size."""

    model: Any
    hidden: int


@pytest.fixture(scope="session", params=["random", "another shape"])
def known(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Known]:
    """The random model, and a checkpoint of three layers, grouped queries and scaled rotation."""
    name, model = "random", None
    if request.param == "random":
        model, _ = random_llama.build(Settings(model=name))
    else:
        model = tiny(layers=3, kv_heads=1, rope=LLAMA3_ROPE)
        model.config.max_position_embeddings = 2048
        folder = save(tmp_path_factory.mktemp("checkpoint"), model)
        name, model = str(folder), LlamaForCausalLM.from_pretrained(folder)
    running = Known(Settings(model=name, threads=1))
    running.model, running.hidden = model.eval().requires_grad_(False), model.config.hidden_size
    yield running
    running.end()


@pytest.fixture(scope="session")
def service() -> Service:
    return Service(Settings(model="random"))
