"""Local training: passes over what a client has to learn, in shuffled batches, with Adam."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from protocol.trainings import LocalSettings
from trainer.answers import Answers
from trainer.model import Model
from trainer.objectives import objective_of


class TrainingDiverged(Exception):
    """The loss became NaN or infinite."""


class Trainer:
    """Trains a model on answers; holds the optimiser, so that going on is not starting anew.

    Args:
        model: Trained in place.
        answers: The queries to learn, each with its true entities.
        settings: Loss, rates and sizes.
        seed: Of shuffling, dropout and negatives: the same seed makes the same model, byte for byte.
    """

    def __init__(self, model: Model, answers: Answers, settings: LocalSettings, seed: int) -> None:
        self.model, self.settings = model, settings
        self.generator = torch.Generator().manual_seed(seed % (1 << 63))
        self.objective = objective_of(model, answers, settings, self.generator)
        self.optimizers = self._optimizers()
        self._dense: dict[str, torch.Tensor] = {}

    def _optimizers(self) -> list[torch.optim.Optimizer]:
        rate, parameters = self.settings.learning_rate, list(self.model.parameters())
        if self.settings.optimizer == "adam":
            return [torch.optim.Adam(parameters, lr=rate, fused=True)]
        tables, dense = parameters[:2], parameters[2:]
        sparse = torch.optim.SparseAdam(tables, lr=rate)
        return [sparse, torch.optim.Adam(dense, lr=rate, fused=True)] if dense else [sparse]

    def snapshot(self) -> dict[str, NDArray[Any]]:
        """Everything that the epochs to come depend on; `restore` goes on from it byte for byte.

        `model.<name>` of `Model.state`; `adam.<parameter>.<moment>` float32: how many steps Adam has taken, and running
        means of the gradient and its square; and the state of the random generator as uint8.
        """
        arrays: dict[str, NDArray[Any]] = {f"model.{name}": array for name, array in self.model.state().items()}
        for optimizer in self.optimizers:
            for name, parameter in self.model.named_parameters():
                for moment, value in optimizer.state.get(parameter, {}).items():
                    number = torch.as_tensor(value, dtype=torch.float32)
                    arrays[f"adam.{name}.{moment}"] = number.cpu().numpy().reshape(number.shape or 1).copy()
        return arrays | {"generator": self.generator.get_state().numpy()}

    def restore(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Go on from a snapshot; the model must be the one in it, as `snapshot_state` reads it."""
        names = {parameter: name for name, parameter in self.model.named_parameters()}
        for optimizer in self.optimizers:
            states = {}
            for number, parameter in enumerate(optimizer.param_groups[0]["params"]):
                key = f"adam.{names[parameter]}"
                if f"{key}.step" not in arrays:
                    continue  # nothing has moved it
                moments = {m: torch.from_numpy(arrays[f"{key}.{m}"].copy()) for m in ("exp_avg", "exp_avg_sq")}
                assert moments["exp_avg"].shape == parameter.shape
                step = torch.from_numpy(arrays[f"{key}.step"].copy()).reshape(())
                # SparseAdam counts in a plain number.
                counted = int(step) if isinstance(optimizer, torch.optim.SparseAdam) else step
                states[number] = {"step": counted, **moments}
            optimizer.load_state_dict({"state": states, "param_groups": optimizer.state_dict()["param_groups"]})
        self.generator.set_state(torch.from_numpy(arrays["generator"].copy()))

    def epoch(self, done: float) -> float:
        """One pass; returns the mean loss of a query or pair.

        Args:
            done: The part of the whole training that is over, in [0, 1); a decaying learning rate follows it.

        Raises:
            TrainingDiverged: The loss is NaN or infinite.
        """
        if self.settings.linear_decay:
            for optimizer in self.optimizers:
                optimizer.param_groups[0]["lr"] = self.settings.learning_rate * (1 - done)
        order = torch.randperm(self.objective.items, generator=self.generator)
        # Batches of equal size: a small last batch would weigh its items more than the others.
        batches = order.tensor_split(max(1, -(-len(order) // self.settings.batch_size)))
        total = sum(self._step(items) * len(items) for items in batches)
        return total / len(order)

    def _step(self, items: torch.Tensor) -> float:
        loss = self.objective.loss(items.numpy())
        value = loss.item()
        if not math.isfinite(value):
            raise TrainingDiverged(f"the training loss became {value}; lower the learning rate")
        self.model.zero_grad(set_to_none=True)
        loss.backward()
        if self.settings.optimizer == "adam":
            self._make_dense()
        for optimizer in self.optimizers:
            optimizer.step()
        return value

    def _make_dense(self) -> None:
        """Add row-sparse gradients up in tensors that are kept: new ones of a table's size cost as much as Adam."""
        for name, parameter in self.model.named_parameters():
            if parameter.grad is not None and parameter.grad.is_sparse:
                rows, values = parameter.grad._indices()[0], parameter.grad._values()
                dense = self._dense.setdefault(name, torch.empty_like(parameter)).zero_()
                parameter.grad = dense.index_add_(0, rows, values)


def snapshot_state(arrays: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[np.float32]]:
    """The model's part of a snapshot, as `Model.of_state` takes it."""
    return {name.removeprefix("model."): a for name, a in arrays.items() if name.startswith("model.")}
