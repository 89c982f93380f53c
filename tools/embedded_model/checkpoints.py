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


class OtherRecipe(Exception):
    """The folder is another training's; the message says the way out."""


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


def claim(folder: Path, made_of: dict[str, str]) -> None:
    """Make a folder for what is made of these hashes, or go on in the one that is.

    Raises:
        OtherRecipe: It holds what is made of others.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path, told = folder / "made_of.json", json.dumps(made_of)
    if not path.exists():
        path.write_text(told, encoding="utf-8")
    elif path.read_text(encoding="utf-8") != told:
        raise OtherRecipe(f"{folder} is of another recipe, corpus or templates; give another folder, or delete it")


class Checkpoints:
    """The checkpoint of one training; a new one takes the place of the last in one step.

    Args:
        folder: Where it lies, and `log.jsonl` beside it.
    """

    def __init__(self, folder: Path) -> None:
        self._path, self._log = folder / "checkpoint.safetensors", folder / "log.jsonl"

    def save(self, model: Any, optimisers: Sequence[torch.optim.Optimizer], progress: Progress) -> None:
        """Keep a training, and write its log, which so never tells of steps that are to be done again."""
        tensors = {f"model.{name}": weight.detach() for name, weight in model.named_parameters()}
        for number, optimiser in enumerate(optimisers):
            for weight, state in optimiser.state_dict()["state"].items():
                tensors |= {f"optimiser.{number}.{weight}.{name}": tensor for name, tensor in state.items()}
        partial, told = self._path.with_suffix(".partial"), {"progress": json.dumps(asdict(progress))}
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, partial, told)
        os.replace(partial, self._path)
        self._log.write_text("".join(f"{json.dumps(line)}\n" for line in progress.log), encoding="utf-8")

    def load(self, model: Any, optimisers: Sequence[torch.optim.Optimizer]) -> Progress:
        """Put the training back where it was; where there is no checkpoint, it is at its beginning."""
        if not self._path.exists():
            return Progress()
        with safe_open(self._path, "pt") as file:
            progress = Progress(**json.loads(file.metadata()["progress"]))
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
        return progress
