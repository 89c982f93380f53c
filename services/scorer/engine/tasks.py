"""A call on its way through the model: the pieces that are still to run, and what those that ran came to.

A task knows its readout and nothing of the model; `engine` runs pieces of several tasks at once and hands each task
its own states.
"""

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from protocol.problems import ModelFailed
from services.scorer.engine.kept import Ran
from services.scorer.engine.losses import CallLoss
from services.scorer.engine.plans import Group, Plan
from services.scorer.engine.readouts import Likelihood, Number, Verdict
from services.scorer.engine.trees import Piece
from services.scorer.requests import Floats, Ints, ScoreGradient
from services.scorer.results import Gradients, Scores, States

Result = Scores | States | Gradients


@dataclass(frozen=True)
class Work:
    """A piece of a task.

    Attributes:
        backward: Whether its gradient is wanted.
    """

    task: "Task"
    group: Group
    piece: Piece
    backward: bool

    @property
    def numbers(self) -> Ints:
        """int64 [b], which of the call's prompts run."""
        return self.group.numbers[self.piece.numbers]


class Task(ABC):
    """One call.

    Attributes:
        plan: Its prompts.
        gradient: Whether gradients are asked for.
        keep: The digest to keep its forward pass under, or None.
        ran: A forward pass of the same call that was kept, so that only its backward pass is left.
        bank: The bank's vectors on the model's device, [rows, H], once it runs.
        normalised: Whether its readout needs the whole vocabulary's normaliser.
    """

    normalised = False

    def __init__(self, plan: Plan, gradient: bool, keep: str | None, ran: list[Ran] | None) -> None:
        self.plan, self.gradient, self.keep, self.ran = plan, gradient, keep, ran
        self.bank: Tensor | None = None
        self.total: Tensor | None = None
        self.kept: list[Ran] = []
        self.kept_bytes = 0
        self._left: deque[Work] = deque()
        if ran is None:
            self._left.extend(Work(self, group, piece, gradient) for group, piece in plan.pieces)

    @property
    def next(self) -> Work | None:
        """The piece that runs next; None where all have run."""
        return self._left[0] if self._left else None

    def take(self) -> Work:
        """The piece that runs next, which is then no longer left."""
        return self._left.popleft()

    @abstractmethod
    def read(self, work: Work, states: Tensor, normaliser: Tensor | None) -> None:
        """Take in the states at a piece's reads, [E, H]; without a gradient."""

    @abstractmethod
    def output(self, states: Tensor) -> Tensor:
        """What gradients are given for, of a piece's states, [b, ...]; with a gradient."""

    @abstractmethod
    def given(self, numbers: Ints, output: Tensor) -> Tensor:
        """d(loss)/d(output) of some prompts, at least float32."""

    @abstractmethod
    def result(self) -> Result:
        """What the call came to.

        Raises:
            ModelFailed: A number is not finite.
        """

    def add_gradient(self, rows: Tensor, gradient: Tensor) -> None:
        """Sum gradients with respect to bank rows int64 [r], [r, H]."""
        if self.total is None:
            bank = self.plan.bank
            size = bank.first_relation + len(self.plan.slots[1].vectors)
            self.total = gradient.new_zeros(size, gradient.shape[1])
        self.total.index_add_(0, rows, gradient)

    def _gradients(self, scores: Floats | None = None, loss: float | None = None) -> Gradients:
        assert self.total is not None
        total = finite(self.total)
        first, second = self.plan.bank.first_entity, self.plan.bank.first_relation
        return Gradients(total[first:second], total[second:], self.plan.usage, scores, loss)


class ScoreTask(Task):
    """A number a triple, and its gradient."""

    def __init__(
        self,
        plan: Plan,
        readout: Verdict | Number | Likelihood,
        gradient: ScoreGradient | None = None,
        loss: CallLoss | None = None,
        keep: str | None = None,
        ran: list[Ran] | None = None,
    ) -> None:
        super().__init__(plan, gradient is not None, keep, ran)
        self.normalised = gradient is None
        self._readout, self._given, self._loss = readout, gradient, loss
        count = plan.usage.prompts
        self._scores = torch.full((count,), torch.nan, dtype=torch.float64)
        self._probabilities = None if not isinstance(readout, Verdict) or gradient else torch.zeros_like(self._scores)
        self._masses = None if isinstance(readout, Likelihood) or gradient else torch.zeros_like(self._scores)
        self._losses: dict[int, float] = {}  # by a piece's first triple: one that runs again is not counted twice
        sent = None if gradient is None else gradient.grad_scores
        self._whole = None if sent is None else torch.from_numpy(sent)
        # Where triples that the loss compares run together, it is differentiated piece by piece. Else all scores come
        # first: from a forward pass that was kept, or from one of its own.
        self._by_piece = loss is not None and ran is None and not _cut_in_units(plan, loss.units)
        if loss is not None and not self._by_piece:
            left = list(self._left)
            self._left.extendleft(replace(work, backward=False) for work in reversed(left))
            for piece in ran or []:
                self._scores[torch.from_numpy(piece.numbers)] = piece.output.detach().to(self._scores)

    def read(self, work: Work, states: Tensor, normaliser: Tensor | None) -> None:
        """Scores, and what is told beside them."""
        numbers = torch.from_numpy(work.numbers)
        if isinstance(self._readout, Likelihood):
            assert self.plan.answers is not None
            assert normaliser is not None
            answers = [self.plan.answers[number] for number in work.numbers]
            targets = torch.from_numpy(np.concatenate(answers)).to(states.device)
            readers = torch.from_numpy(np.repeat(np.arange(len(answers)), [len(a) for a in answers])).to(states.device)
            found = self._readout.read(states, normaliser, targets, readers, len(answers))
        elif normaliser is None:
            self._scores[numbers] = self._readout.scores(states).to(self._scores)
            return
        else:
            found = self._readout.read(states, normaliser)
        for all_, some in (
            (self._scores, found.scores),
            (self._probabilities, found.probabilities),
            (self._masses, found.masses),
        ):
            if all_ is not None and some is not None:
                all_[numbers] = some.to(all_)

    def output(self, states: Tensor) -> Tensor:
        """Scores, [b]."""
        assert not isinstance(self._readout, Likelihood)
        return self._readout.scores(states)

    def given(self, numbers: Ints, output: Tensor) -> Tensor:
        """From what was sent, or from the loss."""
        self._scores[torch.from_numpy(numbers)] = output.detach().to(self._scores)
        if self._by_piece:
            return self._differentiate(output, numbers)
        if self._whole is None:
            self._whole = self._differentiate(self._scores, np.arange(len(self._scores)))
        return self._whole[torch.from_numpy(numbers)].to(output)

    def _differentiate(self, scores: Tensor, numbers: Ints) -> Tensor:
        assert self._loss is not None
        leaf = scores.detach().requires_grad_()
        with torch.enable_grad():
            loss = self._loss.part(leaf, numbers)
        self._losses[int(numbers[0])] = float(loss.detach())
        (gradient,) = torch.autograd.grad(loss, leaf)
        return gradient

    def result(self) -> Result:
        """Scores, or gradients."""
        scores = finite(self._scores)
        if self._given is not None:
            return self._gradients(scores, sum(self._losses.values()) if self._loss else None)
        probabilities, masses = (None if x is None else x.numpy() for x in (self._probabilities, self._masses))
        return Scores(scores, self.plan.usage, probabilities, masses)


class EncodeTask(Task):
    """A hidden state a query, and its gradient."""

    def __init__(
        self,
        plan: Plan,
        grad_states: Floats | None = None,
        keep: str | None = None,
        ran: list[Ran] | None = None,
    ) -> None:
        super().__init__(plan, grad_states is not None, keep, ran)
        self._given = None if grad_states is None else torch.from_numpy(grad_states)
        self._states: Tensor | None = None

    def read(self, work: Work, states: Tensor, normaliser: Tensor | None) -> None:
        """The states themselves."""
        if self._states is None:
            self._states = states.new_empty(self.plan.usage.prompts, states.shape[1], device="cpu")
        self._states[torch.from_numpy(work.numbers)] = states.cpu()

    def output(self, states: Tensor) -> Tensor:
        """States, [b, H]."""
        return states

    def given(self, numbers: Ints, output: Tensor) -> Tensor:
        """As sent."""
        assert self._given is not None
        return self._given[torch.from_numpy(numbers)].to(output.device)

    def result(self) -> Result:
        """States, or gradients."""
        if self.gradient:
            return self._gradients()
        assert self._states is not None
        return States(finite(self._states), self.plan.usage)


def finite(result: Tensor) -> Floats:
    """The numbers on the CPU, at least float32.

    Raises:
        ModelFailed: One is NaN or infinity.
    """
    if not bool(torch.isfinite(result).all()):
        raise ModelFailed("the model produced NaN or infinity; smaller vectors or SCORER_DTYPE=float32 may help")
    found: Floats = result.to("cpu", torch.promote_types(result.dtype, torch.float32)).numpy()
    return found


def _cut_in_units(plan: Plan, units: Ints) -> bool:
    """Whether triples of one unit run in different pieces."""
    pieces: Sequence[Ints] = [group.numbers[piece.numbers] for group, piece in plan.pieces]
    return sum(len(np.unique(units[numbers])) for numbers in pieces) > len(np.unique(units))
