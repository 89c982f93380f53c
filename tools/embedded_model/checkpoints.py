"""Checkpoints of a training: weights, the optimisers' tensors and how far it is, in one safetensors file."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from tools.embedded_model.recipe import Recipe


class OtherRecipe(Exception):
    """The folder holds a training of another recipe or corpus; the message says the way out."""


class Checkpoints:
    """The checkpoint of one training; a new one takes the place of the last in one step.

    Args:
        folder: Where it lies.
        recipe: What it belongs to.
        corpus: SHA-256 of the corpus file, hexadecimal.
    """

    def __init__(self, folder: Path, recipe: Recipe, corpus: str) -> None:
        self._path = folder / "checkpoint.safetensors"
        self._made_of = {"recipe": recipe.hash, "corpus": corpus}

    def save(self, model: Any, optimisers: Sequence[torch.optim.Optimizer], step: int, seconds: float) -> None:
        """Keep a training that has done `step` steps in so many seconds."""
        tensors = {f"model.{name}": weight.detach() for name, weight in model.named_parameters()}
        for number, optimiser in enumerate(optimisers):
            for weight, state in optimiser.state_dict()["state"].items():
                tensors |= {f"optimiser.{number}.{weight}.{name}": tensor for name, tensor in state.items()}
        partial = self._path.with_suffix(".partial")
        about = {"step": step, "seconds": seconds, **self._made_of}
        save_file(
            {name: tensor.contiguous() for name, tensor in tensors.items()}, partial, {"about": json.dumps(about)}
        )
        os.replace(partial, self._path)

    def load(self, model: Any, optimisers: Sequence[torch.optim.Optimizer]) -> tuple[int, float]:
        """Put the training back where it was; returns its steps and seconds, 0 where there is no checkpoint.

        Raises:
            OtherRecipe: It was made by another recipe, or of another corpus.
        """
        if not self._path.exists():
            return 0, 0.0
        with safe_open(self._path, "pt") as file:
            about = json.loads(file.metadata()["about"])
            if any(about[key] != value for key, value in self._made_of.items()):
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
        return int(about["step"]), float(about["seconds"])
