import json
import shutil
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from services.scorer.engine.words import NoSingleTokens, Words
from services.scorer.model.loading import load
from services.scorer.model.random_llama import build_tokenizer
from services.scorer.requests import SlotText
from services.scorer.settings import Settings
from services.scorer.templates import load as load_templates
from tools.embedded_model import training
from tools.embedded_model.__main__ import make
from tools.embedded_model.checkpoints import OtherRecipe
from tools.embedded_model.corpus import read
from tools.embedded_model.questions import Candidate, Questions, told
from tools.embedded_model.recipe import Recipe
from tools.embedded_model.rows import Rows, encode, epoch

from .corpora import entries, write

torch.set_num_threads(1)
CPU = torch.device("cpu")
TINY = Recipe(
    vocabulary=900, hidden=16, intermediate=32, layers=2, heads=2, positions=64, row_batch=2, steps=12, warmup=2,
    log_every=2, evaluate_every=4,
)  # fmt: skip


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("corpus") / "corpus.tsv", entries())


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, corpus: Path) -> Path:
    """The folder of a training that ran to its end."""
    folder = tmp_path_factory.mktemp("made")
    make(TINY, corpus, folder, CPU)
    return folder


def log(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return dict(AutoModelForCausalLM.from_pretrained(folder / "model").named_parameters())


def test_the_folder_is_loaded_by_transformers_alone_and_by_the_scorer(made: Path) -> None:
    plain, tokenizer = (kind.from_pretrained(made / "model") for kind in (AutoModelForCausalLM, AutoTokenizer))
    assert plain.config.architectures == ["LlamaForCausalLM"]
    assert plain.dtype == torch.bfloat16
    text = " naïve 東京\nhead: a </s>"
    assert tokenizer.decode(tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]) == text
    loaded = load(Settings(model=str(made / "model")))
    words = Words(loaded.tokenizer, 64)
    for labels in (["yes", "no"], list("0123456789")):
        assert len(words.answers(labels).tokens) == len(labels)


def test_a_question_is_cut_into_the_tokens_that_the_scorer_sends(made: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(made / "model")
    words = Words(tokenizer, 64)
    for name in ("triple", "triple_head", "number", "number_head"):
        template = load_templates()[name]
        slots = {"head": "Kalomi, a town.", "relation": "lies near", "tail": "Vushel (1869)"}
        given = slots["tail" if template.asks == "head" else "head"]
        spans = told(template, "verdict", given, slots["relation"], [Candidate(slots[template.asks], 1)], 10.0)
        (question,) = encode(tokenizer, [spans])
        sent = words.start(template.parts[0]).tolist()
        for slot, after in zip(template.parts[1::2], template.parts[2::2], strict=True):
            sent += words.slots([SlotText(slots[slot])])[0].tolist() + words.constant(after).tolist()
        assert question.tokens.tolist() == [*sent, int(words.answers(["yes", "no"]).tokens[0]), tokenizer.eos_token_id]


def test_a_run_that_was_stopped_ends_where_another_would(
    made: Path, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loss, steps = training.loss, iter(range(6))

    def stopped(*given: Any) -> torch.Tensor:
        if next(steps, None) is None:
            raise KeyboardInterrupt
        return loss(*given)

    monkeypatch.setattr(training, "loss", stopped)
    with pytest.raises(KeyboardInterrupt):
        make(TINY, corpus, tmp_path, CPU)
    assert not (tmp_path / "model").exists()
    monkeypatch.setattr(training, "loss", loss)
    make(TINY, corpus, tmp_path, CPU)
    whole, resumed = weights(made), weights(tmp_path)
    assert all(torch.equal(resumed[name], weight) for name, weight in whole.items())
    told = [[{k: v for k, v in line.items() if k != "seconds"} for line in log(folder)] for folder in (made, tmp_path)]
    assert told[0] == told[1]


def test_the_log_holds_the_losses_and_the_held_out_curve(made: Path) -> None:
    lines = log(made)
    assert [line["step"] for line in lines if "loss" in line] == [2, 4, 6, 8, 10, 12]
    read = [line for line in lines if "bits_per_byte" in line]
    assert [line["step"] for line in read] == [4, 8, 12]
    assert read[-1]["bits_per_byte"] < read[0]["bits_per_byte"] < 8
    assert all(0 <= line["right"] <= 1 for line in read)


def test_another_recipe_or_corpus_is_refused(made: Path, corpus: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(made, tmp_path / "copy")
    with pytest.raises(OtherRecipe, match="another recipe, corpus"):
        make(replace(TINY, rate=1e-3), corpus, folder, CPU)
    with pytest.raises(OtherRecipe, match="another recipe, corpus"):
        make(TINY, write(tmp_path / "other.tsv", entries(300)), folder, CPU)


def test_a_vocabulary_without_room_for_the_answers_is_refused(corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(NoSingleTokens, match="'yes', 'no'"):
        make(replace(TINY, vocabulary=260), corpus, tmp_path, CPU)


def test_a_row_begins_with_the_token_that_ends_the_one_before(corpus: Path) -> None:
    given, tokenizer = read(corpus), build_tokenizer()
    made = epoch(TINY, tokenizer, given, Questions(given, given, load_templates(), 10.0), 0)
    assert made.tokens.shape == made.weights.shape == (len(made.tokens), TINY.positions + 1)
    assert (made.tokens[1:, 0] == made.tokens[:-1, -1]).all()
    assert (made.weights[1:, 0] == made.weights[:-1, -1]).all()
    stream = made.tokens[:, :-1].ravel()
    begins, ends = np.flatnonzero(stream == tokenizer.bos_token_id), np.flatnonzero(stream == tokenizer.eos_token_id)
    assert begins[0] == 0
    assert (ends[: len(begins) - 1] + 1 == begins[1:]).all()
    texts = sum(len(tokenizer(entry.told)["input_ids"]) + 2 for entry in given)
    # Half of the tokens are questions; of these, the last thousand may be a few too many.
    assert stream.size > 1.9 * texts


@pytest.mark.parametrize("start", [0, 1, 2, 5, 7])
def test_a_step_sees_the_same_rows_wherever_the_run_began(start: int) -> None:
    """Five rows an epoch, two a step: two steps, and a row that is left out."""

    def rows_of(number: int) -> Rows:
        tokens = np.full((5, 3), 10 * number, dtype=np.int32) + np.arange(5, dtype=np.int32)[:, None]
        return Rows(tokens, tokens.astype(np.float32))

    found = [tokens[:, 0].tolist() for tokens, _ in islice(training.batches(TINY, rows_of, start), 3)]
    wanted = [[10 * number + first, 10 * number + first + 1] for number in range(6) for first in (0, 2)]
    assert found == wanted[start : start + 3]


def test_the_rate_rises_and_falls_to_nothing() -> None:
    rates = [training.rate(Recipe(), step) for step in range(Recipe().steps)]
    assert max(rates) == rates[Recipe().warmup] == Recipe().rate
    assert rates == [*sorted(rates[:100]), *sorted(rates[100:], reverse=True)]
    assert rates[-1] < 1e-3 * Recipe().rate
