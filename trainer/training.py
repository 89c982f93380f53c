"""Local training: passes over a client's own queries, in shuffled batches, with Adam."""

import torch

from protocol.federation import LocalSettings
from trainer.answers import Answers
from trainer.interactions import Dropout
from trainer.losses import loss_of
from trainer.model import Model


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
