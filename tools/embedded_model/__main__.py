"""The command: `python -m tools.embedded_model CORPUS FOLDER`; called again, it goes on where it was stopped."""

import argparse
import hashlib
import json
import random
import sys
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import PreTrainedTokenizerFast
from transformers.utils import logging as transformers_logging

from protocol.info import combined_hash
from services.scorer.engine.readouts import DIGITS
from services.scorer.engine.words import NoSingleTokens, Words
from services.scorer.templates import load as load_templates
from tools.embedded_model import corpus, rows, tokenizer, training
from tools.embedded_model.checkpoints import Checkpoints, OtherRecipe, claim
from tools.embedded_model.heldout import HeldOut
from tools.embedded_model.questions import Questions
from tools.embedded_model.recipe import Recipe

TOKENIZER_QUESTIONS = 10_000
"""Questions that the tokenizer learns from, beside the texts: the templates' words and answers become tokens."""


def main() -> int:
    """Train, and write FOLDER/model."""
    parser = argparse.ArgumentParser(prog="python -m tools.embedded_model", description=__doc__)
    parser.add_argument("corpus", type=Path, help="TSV file of source, title and text, or a tar archive of one")
    parser.add_argument("folder", type=Path, help="for the log, the checkpoint and the finished model/")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu", help="default: %(default)s")
    arguments = parser.parse_args()
    if arguments.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda: torch finds no CUDA device")
    try:
        make(Recipe(), arguments.corpus, arguments.folder, torch.device(arguments.device))
    except NoSingleTokens as error:
        return _failed(f"{arguments.corpus} is too small: {error}, from more text")
    except SafetensorError as error:
        return _failed(f"{arguments.folder}: the checkpoint is damaged ({error}); delete it to begin anew")
    except (corpus.BadCorpus, OtherRecipe, OSError) as error:
        return _failed(str(error))
    except KeyboardInterrupt:
        return _failed("stopped; the same command goes on from the last checkpoint")
    return 0


def _failed(why: str) -> int:
    print(why, file=sys.stderr)
    return 1


def make(recipe: Recipe, path: Path, folder: Path, device: torch.device) -> None:
    """Train the recipe's model on a corpus, or go on with it, and write `folder`/model.

    Raises:
        BadCorpus: The corpus cannot be read, or has too few titles.
        NoSingleTokens: The corpus or the recipe's vocabulary is too small for the answers.
        OtherRecipe: The folder is another training's.
    """
    transformers_logging.disable_progress_bar()
    entries = corpus.read(path)
    train, held_out = corpus.split(entries)
    templates = load_templates()
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    claim(
        folder,
        {"recipe": recipe.hash, "corpus": digest, "templates": combined_hash(t.hash for t in templates.values())},
    )
    questions = Questions(train, train, templates, recipe.answer_weight)
    cut = _tokenizer(recipe, folder, train, questions)
    model = training.build(recipe, cut).to(device)
    watched = HeldOut(cut, held_out, Questions(held_out, entries, templates, recipe.answer_weight), recipe.seed)
    training.Training(
        recipe,
        model,
        lambda number: rows.epoch(recipe, cut, train, questions, number),
        watched,
        Checkpoints(folder),
        lambda line: print(json.dumps(line), flush=True),
    ).run()
    # Saved in the precision that the matrices were multiplied in.
    model.to("cpu", torch.bfloat16).save_pretrained(folder / "model")
    cut.save_pretrained(folder / "model")
    print(f"{folder / 'model'} is ready: SCORER_MODEL={folder / 'model'}")


def _tokenizer(recipe: Recipe, folder: Path, train: list[corpus.Entry], questions: Questions) -> Any:
    """The tokenizer of an earlier call, or a new one; every answer is one token of it.

    Raises:
        NoSingleTokens: The vocabulary is too small for that.
    """
    path = folder / "tokenizer"
    if not path.exists():
        random_ = random.Random(f"{recipe.seed} tokenizer")
        asked = ("".join(text for text, _ in questions.ask(random_)) for _ in range(TOKENIZER_QUESTIONS))
        made = tokenizer.train([*(entry.told for entry in train), *asked], recipe.vocabulary)
        for answers in (["yes", "no"], DIGITS):
            if len(Words(made, 1).answers(answers).lead):
                raise NoSingleTokens(f"the tokenizer cuts the space from {answers[0]!r}; give it a larger vocabulary")
        partial = path.with_suffix(".partial")
        made.save_pretrained(partial)
        partial.rename(path)
    return PreTrainedTokenizerFast.from_pretrained(path)


if __name__ == "__main__":
    sys.exit(main())
