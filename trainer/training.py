"""Local training: passes over a client's own queries, in shuffled batches, with Adam."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from protocol.trainings import LocalSettings
from trainer.answers import Answers
from trainer.interactions import Dropout
from trainer.losses import loss_of
from trainer.model import Model

_MOMENTS = ("step", "exp_avg", "exp_avg_sq")
"""What Adam keeps of each parameter: how many steps it has taken, and running means of the gradient and its square."""


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
        self.model, self.answers, self.settings = model, answers, settings
        self.generator = torch.Generator().manual_seed(seed % (1 << 63))
        self.dropout = Dropout(settings.dropout, self.generator)
        self.optimizer = torch.optim.Adam(model.parameters(), lr=settings.learning_rate, fused=True)

    def snapshot(self) -> dict[str, NDArray[Any]]:
        """Everything that the epochs to come depend on; `restore` goes on from it byte for byte.

        `model.<name>` of `Model.state`, `adam.<parameter>.<moment>` float32, and the state of the random generator as
        uint8.
        """
        arrays: dict[str, NDArray[Any]] = {f"model.{name}": array for name, array in self.model.state().items()}
        for name, parameter in self.model.named_parameters():
            for moment, value in self.optimizer.state[parameter].items():
                arrays[f"adam.{name}.{moment}"] = value.numpy().reshape(value.shape or 1).copy()
        return arrays | {"generator": self.generator.get_state().numpy()}

    def restore(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Go on from a snapshot; the model must be the one in it, as `snapshot_state` reads it."""
        states = {}
        for number, (name, parameter) in enumerate(self.model.named_parameters()):
            moments = {moment: torch.from_numpy(arrays[f"adam.{name}.{moment}"].copy()) for moment in _MOMENTS}
            states[number] = moments | {"step": moments["step"].reshape(())}
            assert moments["exp_avg"].shape == parameter.shape
        self.optimizer.load_state_dict({"state": states, "param_groups": self.optimizer.state_dict()["param_groups"]})
        self.generator.set_state(torch.from_numpy(arrays["generator"].copy()))

    def epoch(self, done: float) -> float:
        """One pass; returns the mean loss of a query.

        Args:
            done: The part of the whole training that is over, in [0, 1); a decaying learning rate follows it.

        Raises:
            TrainingDiverged: The loss is NaN or infinite.
        """
        if self.settings.linear_decay:
            self.optimizer.param_groups[0]["lr"] = self.settings.learning_rate * (1 - done)
        order = torch.randperm(len(self.answers), generator=self.generator)
        # Batches of equal size: a small last batch would weigh its queries more than the others.
        batches = order.tensor_split(max(1, -(-len(order) // self.settings.batch_size)))
        total = sum(self._step(rows) * len(rows) for rows in batches)
        return total / len(order)

    def _step(self, rows: torch.Tensor) -> float:
        numbers = rows.numpy()
        scores = self.model.scores(self.answers.queries[numbers], self.dropout)
        row, answer = (torch.from_numpy(column) for column in self.answers.rows(numbers))
        offset = self.settings.margin if self.model.interaction.distance else 0.0
        loss = loss_of(scores, row, answer, self.settings, offset, self.generator)
        value = loss.item()
        if not torch.isfinite(loss):
            raise TrainingDiverged(f"the training loss became {value}; lower the learning rate")
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        return value


def snapshot_state(arrays: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[np.float32]]:
    """The model's part of a snapshot, as `Model.of_state` takes it."""
    return {name.removeprefix("model."): a for name, a in arrays.items() if name.startswith("model.")}
