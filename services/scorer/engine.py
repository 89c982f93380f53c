"""Runs calls on the model: scores, states, and gradients of states with respect to the vectors that were sent.

Knows no HTTP and keeps nothing of a call. Shapes: t triples, q queries, v entity and w relation vectors, H hidden.
"""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from protocol.problems import InvalidRequest, ModelFailed
from protocol.scoring import Limits, Usage
from services.scorer.forward import Batch, Forward, Prefix
from services.scorer.loading import Loaded
from services.scorer.prompts import Bank, Piece, Prompts, constant_rows, lay_out
from services.scorer.requests import EncodeCall, Floats, Ints, ScoreCall, check_limit
from services.scorer.templates import SIDES, Template
from services.scorer.words import Words

log = logging.getLogger(__name__)

# Bounds what one piece of a batch keeps in memory, in numbers: 1 GiB of float32.
PIECE_NUMBERS = 1 << 28
# Larger pieces fall out of the CPU's caches: of a tiny model they ran a quarter slower.
PIECE_TOKENS = 1 << 14


@dataclass(frozen=True)
class _Compiled:
    """A template in token ids: what all its prompts begin with, then words and slots in turn."""

    start: Ints
    prefix: Prefix
    parts: list[Ints | str]


@dataclass(frozen=True)
class _Group:
    """The prompts of a call that share a template; `numbers` is int64 [B], which of the call's prompts they are."""

    compiled: _Compiled
    numbers: Ints
    prompts: Prompts


@dataclass(frozen=True)
class _Plan:
    """A call, laid out and within the limits."""

    bank: Bank
    groups: list[_Group]
    usage: Usage


class Engine:
    """One loaded model and its templates. Calls may run on several threads: nothing here changes after the start.

    Attributes:
        hidden: The model's hidden size.
    """

    def __init__(self, loaded: Loaded, templates: Mapping[str, Template], limits: Limits) -> None:
        """Prepare the templates; this runs the model on their first words.

        Raises:
            NoVerdictTokens: The tokenizer has no single tokens for the verdicts.
        """
        config = loaded.model.config
        self.hidden: int = config.hidden_size
        self._limits = limits
        self._embedding = loaded.model.get_input_embeddings()
        self._dtype: torch.dtype = self._embedding.weight.dtype
        self._exact = torch.promote_types(self._dtype, torch.float32)  # of sums and results
        self._device = self._embedding.weight.device
        self._words = Words(loaded.tokenizer)
        head = loaded.model.get_output_embeddings().weight
        self._verdicts = head[[self._words.yes, self._words.no]].detach().to(self._exact)
        self._forward = Forward(loaded.model)
        layer_numbers = 10 * config.hidden_size + 3 * config.intermediate_size
        self._piece_tokens = min(PIECE_TOKENS, PIECE_NUMBERS // layer_numbers)
        # Only a gradient needs what all the layers computed at the same time.
        self._gradient_piece_tokens = min(PIECE_TOKENS, PIECE_NUMBERS // (layer_numbers * config.num_hidden_layers))
        self._compiled = {name: self._compile(template) for name, template in templates.items()}

    def score(self, call: ScoreCall) -> tuple[Floats, Usage]:
        """logit(yes) - logit(no) of every triple, [t].

        Raises:
            InvalidRequest: A prompt is empty of tokens where a slot should be.
            BodyTooLarge: The prompts are over a limit of tokens.
            ModelFailed: The model raised, or produced a number that is not finite.
        """
        plan = self._plan(call)
        scores = torch.empty(len(call.triples), dtype=self._exact)
        with _model_faults(), torch.no_grad():
            bank = self._rows(call, plan.bank)
            for group, piece in _pieces(plan, self._piece_tokens):
                states = self._states(group, piece, bank[self._tensor(piece.rows)])
                logits = states.to(self._exact) @ self._verdicts.T
                scores[group.numbers[piece.numbers]] = (logits[:, 0] - logits[:, 1]).cpu()
        return _finite(scores), plan.usage

    def encode(self, call: EncodeCall) -> tuple[Floats, Usage]:
        """The hidden state at every query's end, [q, H]. Raises as `score` does."""
        plan = self._plan(call)
        states = torch.empty(len(call.queries), self.hidden, dtype=self._exact)
        with _model_faults(), torch.no_grad():
            bank = self._rows(call, plan.bank)
            for group, piece in _pieces(plan, self._piece_tokens):
                found = self._states(group, piece, bank[self._tensor(piece.rows)])
                states[group.numbers[piece.numbers]] = found.to("cpu", self._exact)
        return _finite(states), plan.usage

    def encode_gradient(self, call: EncodeCall, grad_states: Floats) -> tuple[Floats, Floats, Usage]:
        """Gradients with respect to the entity and relation vectors, [v, H] and [w, H].

        The forward pass is run again, so that any replica can answer; pieces only split the sum.

        Args:
            call: As it was encoded.
            grad_states: d(loss)/d(states), [q, H].

        Raises:
            The same as `score`.
        """
        plan = self._plan(call)
        with _model_faults():
            bank = self._rows(call, plan.bank)
            total = torch.zeros(bank.shape, dtype=self._exact, device=self._device)
            given, scale = self._scaled(grad_states)
            for group, piece in _pieces(plan, self._gradient_piece_tokens):
                rows = self._tensor(piece.rows)
                leaf = bank[rows].requires_grad_()
                states = self._states(group, piece, leaf)
                (grad,) = torch.autograd.grad(states, leaf, given[self._tensor(group.numbers[piece.numbers])])
                total.index_add_(0, rows, grad.to(self._exact))
        gradients = _finite(total.cpu() * scale)
        first, second = plan.bank.first_entity, plan.bank.first_relation
        return gradients[first:second], gradients[second:], plan.usage

    def _scaled(self, grad_states: Floats) -> tuple[Tensor, float]:
        """Gradients in the model's dtype and what to multiply by: float16 loses the small ones of a mean loss."""
        exact = torch.from_numpy(grad_states).to(self._device, self._exact)
        scale = float(exact.abs().max()) if self._dtype is not self._exact else 1.0
        scale = scale or 1.0
        return (exact / scale).to(self._dtype), scale

    def _compile(self, template: Template) -> _Compiled:
        words, *rest = template.parts
        start = np.concatenate([self._words.bos, self._words.constant(words)])
        with torch.no_grad():
            prefix = self._forward.prefix(self._embedding(self._tensor(start)))
        # Words stand at every second part.
        parts = [self._words.constant(part) if place % 2 else part for place, part in enumerate(rest)]
        return _Compiled(start, prefix, parts)

    def _plan(self, call: ScoreCall | EncodeCall) -> _Plan:
        chosen = _columns(call)
        constants = [part for name, *_ in chosen for part in self._compiled[name].parts if not isinstance(part, str)]
        bank = lay_out(call.entities, call.relations, self._words, constants)
        groups, tokens, shared = [], 0, 0
        for name, numbers, columns in chosen:
            compiled = self._compiled[name]
            prompts = Prompts([_part(bank, part, columns, len(numbers)) for part in compiled.parts], len(numbers))
            if not prompts.lengths.all():
                raise InvalidRequest.of("texts", "a prompt has no tokens; give its slots text that is not blank")
            longest = int(prompts.lengths.max()) + len(compiled.start)
            check_limit("tokens in one prompt", longest, "max_prompt_tokens", self._limits.max_prompt_tokens)
            shared += len(numbers) * len(compiled.start)
            tokens += int(prompts.lengths.sum())
            groups.append(_Group(compiled, numbers, prompts))
        check_limit("tokens in one call", tokens + shared, "max_call_tokens", self._limits.max_call_tokens)
        count = sum(len(group.numbers) for group in groups)
        return _Plan(bank, groups, Usage(prompts=count, tokens=tokens + shared, shared_tokens=shared))

    def _rows(self, call: ScoreCall | EncodeCall, bank: Bank) -> Tensor:
        """The bank itself, [R, H] in the model's dtype."""
        vectors = [
            torch.from_numpy(slots.vectors).to(self._device, self._dtype) for slots in (call.entities, call.relations)
        ]
        with torch.no_grad():
            return torch.cat([self._embedding(self._tensor(bank.tokens)), *vectors])

    def _states(self, group: _Group, piece: Piece, rows: Tensor) -> Tensor:
        batch = Batch(self._tensor(piece.positions), self._tensor(piece.index), self._tensor(piece.ends))
        return self._forward.states(rows, batch, group.compiled.prefix)

    def _tensor(self, numbers: Ints) -> Tensor:
        return torch.from_numpy(numbers).to(self._device)


def _columns(call: ScoreCall | EncodeCall) -> list[tuple[str, Ints, dict[str, Ints]]]:
    """The templates of a call, which of its prompts use each, and the row of each slot in those."""
    if isinstance(call, ScoreCall):
        columns = dict(zip(("head", "relation", "tail"), call.triples.T, strict=True))
        return [(call.template, np.arange(len(call.triples)), columns)]
    chosen = []
    for side, given in ((0, "head"), (1, "tail")):
        numbers = np.flatnonzero(call.sides == side)
        if len(numbers):
            entities, relations = call.queries[numbers].T
            chosen.append((SIDES[side], numbers, {given: entities, "relation": relations}))
    return chosen


def _part(bank: Bank, part: Ints | str, columns: dict[str, Ints], count: int) -> tuple[Any, Ints]:
    if isinstance(part, str):
        return (bank.relations if part == "relation" else bank.entities), columns[part]
    return constant_rows(bank, part), np.zeros(count, dtype=np.int64)


def _pieces(plan: _Plan, tokens: int) -> Iterator[tuple[_Group, Piece]]:
    for group in plan.groups:
        for piece in group.prompts.pieces(tokens):
            yield group, piece


def _finite(result: Tensor) -> Floats:
    if not bool(torch.isfinite(result).all()):
        raise ModelFailed("the model produced NaN or infinity; smaller vectors or SCORER_DTYPE=float32 may help")
    return result.numpy()


@contextmanager
def _model_faults() -> Iterator[None]:
    """What the model raises on a valid request, as `ModelFailed`; the log has the reason."""
    try:
        yield
    except Exception as error:
        log.exception("the model failed")
        raise ModelFailed(f"the model failed ({type(error).__name__}); the scorer's log has the reason") from error
