"""Held-out text is read as transformers alone would read it, also where it is longer than a row."""

import math
import random
from typing import Any

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from services.scorer.model.random_llama import build_tokenizer
from services.scorer.templates import load as load_templates
from tools.embedded_model.corpus import Entry
from tools.embedded_model.heldout import QUESTIONS, HeldOut, bits_per_byte
from tools.embedded_model.questions import Questions
from tools.embedded_model.rows import encode

from .corpora import entries

POSITIONS = 64


@pytest.fixture(scope="module")
def model() -> Any:
    torch.manual_seed(0)
    shape = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = LlamaConfig(vocab_size=len(build_tokenizer()), max_position_embeddings=POSITIONS, **shape)
    return LlamaForCausalLM(config).eval().requires_grad_(False)


@pytest.fixture(scope="module")
def long_model(model: Any) -> Any:
    """The same with room for whole questions."""
    config = LlamaConfig(**(model.config.to_dict() | {"max_position_embeddings": 2_048}))
    torch.manual_seed(1)
    return LlamaForCausalLM(config).eval().requires_grad_(False)


def plain(model: Any, entry: Entry) -> float:
    """Bits of one text, token by token, each after at least half a row of what is before it, where there is so much."""
    tokenizer = build_tokenizer()
    ids = [tokenizer.bos_token_id, *tokenizer(entry.told)["input_ids"], tokenizer.eos_token_id]
    half, bits = POSITIONS // 2, 0.0
    for place in range(1, len(ids)):
        start = 0 if place < POSITIONS else (place // half - 1) * half
        logits = model(torch.tensor([ids[start:place]])).logits[0, -1]
        bits -= float(logits.log_softmax(0)[ids[place]]) / math.log(2)
    return bits


@pytest.mark.parametrize("length", [5, POSITIONS - 4, POSITIONS, 3 * POSITIONS + 7])
def test_bits_are_those_of_plain_calls(model: Any, length: int) -> None:
    given = [Entry("a", "b", "c" * length), Entry("a", "ü", "short")]
    size = sum(len(entry.told.encode()) for entry in given)
    wanted = sum(plain(model, entry) for entry in given) / size
    assert bits_per_byte(model, build_tokenizer(), given) == pytest.approx(wanted, rel=1e-4)


def test_answers_are_judged_as_by_plain_calls(long_model: Any) -> None:
    tokenizer, given = build_tokenizer(), entries(40)
    questions = Questions(given, given, load_templates(), 10.0)
    found = HeldOut(tokenizer, given[:2], questions, seed=3).read(long_model)
    random_, right, losses = random.Random("3 held out"), [], []
    for document in encode(tokenizer, [questions.ask(random_) for _ in range(QUESTIONS)]):
        logits = long_model(torch.from_numpy(document.tokens)[None].long()).logits[0]
        for place in np.flatnonzero(document.weights > 1):
            right.append(int(logits[place - 1].argmax()) == document.tokens[place])
            losses.append(-float(logits[place - 1].log_softmax(0)[document.tokens[place]]))
    assert found.right == pytest.approx(np.mean(right))
    assert found.answer_loss == pytest.approx(np.mean(losses), rel=1e-4)
