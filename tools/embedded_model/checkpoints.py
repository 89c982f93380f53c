"""Checkpoints of a training: weights, the optimisers' tensors, how far it is and its log, in one safetensors file."""

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from tools.embedded_model.recipe import Recipe


class OtherRecipe(Exception):
    """The folder holds a training of another recipe or corpus; the message says the way out."""


@dataclass
class Progress:
    """How far a training is.

    Attributes:
        step: Steps that are done.
        seconds: That they took.
        log: A line for every so many steps, and for every reading of what is held out.
    """

    step: int = 0
    seconds: float = 0.0
    log: list[dict[str, Any]] = field(default_factory=list)


class Checkpoints:
    """The checkpoint of one training; a new one takes the place of the last in one step.

    Args:
        folder: Where it lies, and `log.jsonl` beside it.
        recipe: What it belongs to.
        corpus: SHA-256 of the corpus file, hexadecimal.
    """

    def __init__(self, folder: Path, recipe: Recipe, corpus: str) -> None:
        self._path, self._log = folder / "checkpoint.safetensors", folder / "log.jsonl"
        self._made_of = {"recipe": recipe.hash, "corpus": corpus}

    def save(self, model: Any, optimisers: Sequence[torch.optim.Optimizer], progress: Progress) -> None:
        """Keep a training, and write its log, which so never tells of steps that are to be done again."""
        tensors = {f"model.{name}": weight.detach() for name, weight in model.named_parameters()}
        for number, optimiser in enumerate(optimisers):
            for weight, state in optimiser.state_dict()["state"].items():
                tensors |= {f"optimiser.{number}.{weight}.{name}": tensor for name, tensor in state.items()}
        partial = self._path.with_suffix(".partial")
        about = {**self._made_of, **asdict(progress)}
        save_file(
            {name: tensor.contiguous() for name, tensor in tensors.items()}, partial, {"about": json.dumps(about)}
        )
        os.replace(partial, self._path)
        self._log.write_text("".join(f"{json.dumps(line)}\n" for line in progress.log), encoding="utf-8")

    def load(self, model: Any, optimisers: Sequence[torch.optim.Optimizer]) -> Progress:
        """Put the training back where it was; where there is no checkpoint, it is at its beginning.

        Raises:
            OtherRecipe: It was made by another recipe, or of another corpus.
        """
        if not self._path.exists():
            return Progress()
        with safe_open(self._path, "pt") as file:
            about = json.loads(file.metadata()["about"])
            if any(about.pop(key) != value for key, value in self._made_of.items()):
                raise OtherRecipe(f"{self._path} is of another recipe or corpus; give another folder, or delete it")
            states: list[dict[int, dict[str, torch.Tensor]]] = [{} for _ in optimisers]
            weights = dict(model.named_parameters())
            for name in file.keys():  # noqa: SIM118 - the file is no mapping
                kind, rest = name.split(".", 1)
                if kind == "model":
                    with torch.no_grad():
                        weights[rest].copy_(file.get_tensor(name))
                else:
                    number, weight, part = rest.split(".")
                    states[int(number)].setdefault(int(weight), {})[part] = file.get_tensor(name)
        for optimiser, state in zip(optimisers, states, strict=True):
            optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})
        return Progress(**about)
