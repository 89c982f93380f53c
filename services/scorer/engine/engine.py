"""Runs tasks on the model: scores, states, and gradients with respect to the vectors that were sent.

Knows no HTTP and no queue. `services.scorer.worker` decides which pieces run together.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

from protocol.info import Limits
from protocol.messages import TAIL
from protocol.problems import ModelFailed
from services.scorer.engine.forest import plant
from services.scorer.engine.forward import Forward
from services.scorer.engine.kept import Kept, Ran, digest_of
from services.scorer.engine.losses import CallLoss
from services.scorer.engine.plans import Budget, Planner
from services.scorer.engine.prompts import Rows
from services.scorer.engine.readouts import Likelihood, Number, Readers, Verdict, Vocabulary
from services.scorer.engine.tasks import EncodeTask, ScoreTask, Task, Work
from services.scorer.engine.trees import Part, Prompts, Root
from services.scorer.engine.words import Words
from services.scorer.model.loading import Loaded
from services.scorer.requests import EncodeCall, Floats, ScoreCall, ScoreGradient
from services.scorer.templates import Template, is_shipped

log = logging.getLogger(__name__)

BATCH_TOKENS = 1 << 14
"""More run no faster: of a tiny model larger batches fall out of the CPU's caches, of a large one it is busy before."""


class Engine:
    """One loaded model and its templates. Tasks may run on several threads: only `kept` changes after the start.

    Attributes:
        hidden: The model's hidden size.
        planner: Makes prompts of calls.
        batch_tokens: Tokens that run at once.
        kept: Forward passes that wait for their gradient call.
    """

    def __init__(
        self,
        loaded: Loaded,
        templates: Mapping[str, Template],
        limits: Limits,
        *,
        description_tokens: int = 64,
        batch_tokens: int | None = None,
        memory: int = 1 << 30,
        kept: Kept | None = None,
    ) -> None:
        """Prepare the templates; this runs the model on their first words.

        Args:
            loaded: The model.
            templates: By name.
            limits: Of a call.
            description_tokens: To which descriptions are cut.
            batch_tokens: Tokens that run at once; by default as many as suit.
            memory: Bytes that a batch may take beside the weights.
            kept: Where forward passes wait.

        Raises:
            NoSingleTokens: The tokenizer cannot tell the answers of a template apart that does not ship.
        """
        config = loaded.model.config
        self.hidden: int = config.hidden_size
        self._embedding = loaded.model.get_input_embeddings()
        self._device = self._embedding.weight.device
        self._itemsize: int = self._embedding.weight.dtype.itemsize
        self._forward = Forward(loaded.model)
        self._token_numbers: int = 10 * config.hidden_size + 3 * config.intermediate_size
        self._heads: int = config.num_attention_heads
        self._memory = memory
        self.batch_tokens = batch_tokens or BATCH_TOKENS
        self.kept = kept or Kept(0, 0)
        self.planner = Planner(Words(loaded.tokenizer, description_tokens), limits, self._forward.depth)
        for name, template in templates.items():
            self.planner.add(name, template, self._root(template), shipped=is_shipped(name))
        self._vocabulary = Vocabulary(loaded.model.get_output_embeddings().weight)
        self._readouts = {
            (name, readout): (Verdict if readout == "verdict" else Number)(
                self._vocabulary, torch.from_numpy(answers.tokens)
            )
            for name, compiled in self.planner.templates.items()
            for readout, answers in compiled.answers.items()
        }

    def score(self, call: ScoreCall, side: int = TAIL) -> Task:
        """A task that ends in `Scores`.

        Raises:
            InvalidRequest: A text has no tokens, or a template is not there or not made for this.
            BodyTooLarge: The prompts are over a limit of tokens.
        """
        plan = self.planner.score(call, side, self._budget(gradient=call.keep))
        task = ScoreTask(plan, self._readout(call, side))
        return task if call.readout == "likelihood" else self._keeping(task, call)

    def score_gradient(self, call: ScoreCall, given: ScoreGradient) -> Task:
        """A task that ends in `Gradients`. Raises as `score` does, or `InvalidRequest` for groups without negatives."""
        loss = CallLoss(given) if given.loss else None
        units = loss.units if loss else None
        plan = self.planner.score(call, TAIL, self._budget(gradient=True), units)
        return ScoreTask(plan, self._readout(call, TAIL), given, loss, ran=self.kept.take(digest_of(call)))

    def encode(self, call: EncodeCall) -> Task:
        """A task that ends in `States`. Raises as `score` does."""
        return self._keeping(EncodeTask(self.planner.encode(call, self._budget(gradient=call.keep))), call)

    def encode_gradient(self, call: EncodeCall, grad_states: Floats) -> Task:
        """A task that ends in `Gradients`, given d(loss)/d(states), [q, H]. Raises as `score` does."""
        plan = self.planner.encode(call, self._budget(gradient=True))
        return EncodeTask(plan, grad_states, ran=self.kept.take(digest_of(call)))

    def _readout(self, call: ScoreCall, side: int) -> Readers:
        if call.readout == "likelihood":
            return Likelihood(self._vocabulary)
        return self._readouts[self.planner.chosen(call.template, call.readout, side), call.readout]

    def _keeping(self, task: Task, call: ScoreCall | EncodeCall) -> Task:
        """The task, which keeps its forward pass if its caller wants that and it fits."""
        longest = max(group.prompts.longest for group in task.plan.groups)
        tokens = sum(piece.tokens for _, piece in task.plan.pieces)
        size = tokens * self._numbers(longest) * task.plan.depth * self._itemsize
        if call.keep and self.kept.fits(size):
            task.keep, task.kept_bytes = digest_of(call), size
        return task

    def _budget(self, gradient: bool) -> Budget:
        def tokens(longest: int, depth: int) -> int:
            # Only a gradient needs what all the layers computed at the same time.
            each = self._numbers(longest) * self._itemsize * (depth if gradient else 1)
            return max(1, min(self.batch_tokens, self._memory // each))

        return tokens

    def _numbers(self, longest: int) -> int:
        """What a token takes in one layer, at most: projections, MLP, and attention to a prompt of that length."""
        return self._token_numbers + 3 * self._heads * longest

    def run(self, works: Sequence[Work]) -> None:
        """Run pieces of several tasks at once: all with a gradient or none, to one depth.

        Pieces of a task that keeps its forward pass run with no other's.

        Raises:
            ModelFailed: The model raised.
        """
        with _model_faults():
            backward = works[0].backward
            keep = not backward and works[0].task.keep is not None
            roots = self._forward.roots
            trees = [work.group.prompts.tree(work.piece.at, roots) for work in works]
            forest = plant(trees, roots, self._device)
            banks = [self._bank(work.task) for work in works]
            leaf = torch.cat([bank[rows] for bank, rows in zip(banks, forest.pairs, strict=True)])
            leaf.requires_grad_(backward or keep)
            with torch.set_grad_enabled(backward or keep):
                states = self._forward.states(leaf, forest, works[0].task.plan.depth)
                each = states.split([len(tree.readers) for tree in trees])
                outputs = [work.task.output(s) for work, s in zip(works, each, strict=True)] if backward or keep else []
            if backward:
                self._backward(works, outputs, leaf, forest.pairs)
                return
            self._read(works, states.detach(), [len(tree.readers) for tree in trees])
            if keep:
                numbers = np.concatenate([work.numbers for work in works])
                works[0].task.kept.append(Ran(leaf, torch.cat(forest.pairs), torch.cat(outputs), numbers))

    def finish(self, task: Task) -> None:
        """Take note that all pieces of a task have run."""
        if task.keep is not None:
            self.kept.put(task.keep, task.kept, task.kept_bytes)

    def backward(self, task: Task) -> None:
        """Run the backward pass of a task whose forward pass was kept. Raises as `run` does."""
        with _model_faults():
            assert task.ran is not None
            for ran in task.ran:
                given, scale = _scaled(task.given(ran.numbers, ran.output), ran.output, ran.leaf.dtype)
                (gradient,) = torch.autograd.grad(ran.output, ran.leaf, given)
                task.add_gradient(ran.rows, gradient.to(self._vocabulary.exact) * scale)
            task.ran = []

    def _backward(self, works: Sequence[Work], outputs: list[Tensor], leaf: Tensor, pairs: list[Tensor]) -> None:
        given = [_scaled(w.task.given(w.numbers, o), o, leaf.dtype) for w, o in zip(works, outputs, strict=True)]
        (gradient,) = torch.autograd.grad(outputs, leaf, [g for g, _ in given])
        parts = gradient.to(self._vocabulary.exact).split([len(rows) for rows in pairs])
        # Nothing is added before all is computed: a batch that fails runs again, and must not be counted twice.
        gradients = [part * scale for part, (_, scale) in zip(parts, given, strict=True)]
        for work, rows, part in zip(works, pairs, gradients, strict=True):
            work.task.add_gradient(rows, part)

    def _read(self, works: Sequence[Work], states: Tensor, sizes: list[int]) -> None:
        with torch.no_grad():
            each = states.split(sizes)
            wanted = [s for work, s in zip(works, each, strict=True) if work.task.normalised]
            # One pass over the vocabulary for all.
            normalisers = self._vocabulary.normaliser(torch.cat(wanted)) if wanted else states[:0]
            found = iter(normalisers.split([len(s) for s in wanted]))
            for work, own in zip(works, each, strict=True):
                work.task.read(work, own, next(found) if work.task.normalised else None)

    def _bank(self, task: Task) -> Tensor:
        """The vectors of a task's bank, [rows, H] in the model's dtype."""
        if task.bank is None:
            weight = self._embedding.weight
            sent = [torch.from_numpy(slots.vectors).to(weight) for slots in task.plan.slots]
            task.bank = torch.cat([weight[torch.from_numpy(task.plan.bank.tokens).to(weight.device)], *sent])
        return task.bank

    def _root(self, template: Template) -> Root:
        """Run what all prompts of a template begin with."""
        ids = self.planner.start(template)
        if not len(ids):
            return Root(0, 0)
        first = np.zeros(1, dtype=np.int64)
        row = Rows(np.arange(len(ids)), first, np.array([len(ids)]))
        prompts = Prompts(Root(0, 0), [[Part(row, first)]], np.ones(1, dtype=np.int64))
        forest = plant([prompts.tree(slice(0, 1), self._forward.roots)], self._forward.roots, self._device)
        with torch.no_grad():
            rows = self._embedding.weight[torch.from_numpy(ids).to(self._device)]
            return Root(self._forward.add_root(rows[forest.pairs[0]], forest), len(ids))


def _scaled(gradient: Tensor, output: Tensor, dtype: torch.dtype) -> tuple[Tensor, float]:
    """A gradient and what to multiply by in the end: half precision loses the small ones of a mean loss."""
    scale = float(gradient.abs().max()) if dtype.itemsize < 4 else 1.0
    scale = scale if 0 < scale < float("inf") else 1.0
    return (gradient / scale).to(output), scale


@contextmanager
def _model_faults() -> Iterator[None]:
    """What the model raises on a valid request, as `ModelFailed`; the log has the reason."""
    try:
        yield
    except ModelFailed:
        raise
    except Exception as error:
        log.exception("the model failed")
        raise ModelFailed(f"the model failed ({type(error).__name__}); the scorer's log has the reason") from error
