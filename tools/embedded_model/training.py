"""The training loop: Muon for the layers' matrices, AdamW for the rest, checkpoints that a stopped run goes on from.

What a step does depends on the recipe, the corpus and the step's number alone, so that a run that was stopped ends
where another would, on the same machine. Muon: Jordan et al., 2024, as `torch.optim.Muon` has it.
"""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from tools.embedded_model.checkpoints import Checkpoints, Progress
from tools.embedded_model.heldout import HeldOut
from tools.embedded_model.recipe import Recipe
from tools.embedded_model.rows import Rows


def build(recipe: Recipe, tokenizer: Any) -> Any:
    """A LLaMA of the recipe's shape with random weights, float32."""
    torch.manual_seed(recipe.seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=recipe.hidden,
        intermediate_size=recipe.intermediate,
        num_hidden_layers=recipe.layers,
        num_attention_heads=recipe.heads,
        num_key_value_heads=recipe.heads,
        max_position_embeddings=recipe.positions,
        tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    return LlamaForCausalLM(config)


def rate(recipe: Recipe, step: int) -> float:
    """The learning rate of a step, from 0: up along a line, then down to nothing along a cosine."""
    if step < recipe.warmup:
        return recipe.rate * (step + 1) / recipe.warmup
    gone = (step - recipe.warmup) / max(1, recipe.steps - recipe.warmup)
    return recipe.rate * 0.5 * (1 + math.cos(math.pi * gone))


def optimisers(recipe: Recipe, model: Any) -> list[torch.optim.Optimizer]:
    """Muon for the matrices that map states to states; AdamW for the norms, and for the embedding, a list of rows."""
    matrices = [weight for name, weight in model.named_parameters() if weight.dim() == 2 and ".layers." in name]
    others = [weight for name, weight in model.named_parameters() if weight.dim() == 1 or ".layers." not in name]
    muon = torch.optim.Muon(matrices, recipe.rate, weight_decay=recipe.weight_decay, adjust_lr_fn="match_rms_adamw")
    return [muon, torch.optim.AdamW(others, recipe.rate, betas=(0.9, 0.95), weight_decay=0.0, fused=True)]


def loss(model: Any, tokens: Tensor, weights: Tensor) -> Tensor:
    """The weighted mean of -log p of the tokens that count, in nats.

    Args:
        model: A LLaMA; its matrices are multiplied in bfloat16.
        tokens: int64 [rows, positions + 1].
        weights: float32 [rows, positions + 1].
    """
    counted = weights[:, 1:] > 0
    with torch.autocast(tokens.device.type, torch.bfloat16):
        states = model.model(input_ids=tokens[:, :-1], use_cache=False).last_hidden_state
        logits = model.lm_head(states[counted])
    losses = F.cross_entropy(logits.float(), tokens[:, 1:][counted], reduction="none")
    shares = weights[:, 1:][counted]
    return (losses * shares).sum() / shares.sum()


def batches(recipe: Recipe, epoch: Callable[[int], Rows], start: int) -> Iterator[tuple[Tensor, Tensor]]:
    """The tokens and weights of each step from `start` on; an epoch's last rows that fill no step are left out."""
    step = number = 0
    while True:
        rows = epoch(number)
        for first in range(0, len(rows.tokens) - recipe.row_batch + 1, recipe.row_batch):
            if step >= start:
                some = slice(first, first + recipe.row_batch)
                yield torch.from_numpy(rows.tokens[some]).long(), torch.from_numpy(rows.weights[some])
            step += 1
        number += 1


@dataclass(frozen=True)
class Training:
    """One run of a recipe.

    Attributes:
        recipe: Its numbers.
        model: What is trained, on its device.
        epoch: Makes an epoch's rows, equal ones for equal numbers.
        held_out: What the run is watched by.
        checkpoints: Where it goes on from, and is saved to.
        say: Told each line of the log.
    """

    recipe: Recipe
    model: Any
    epoch: Callable[[int], Rows]
    held_out: HeldOut
    checkpoints: Checkpoints
    say: Callable[[dict[str, Any]], None]

    def run(self) -> None:
        """Train to the recipe's last step, from the checkpoint if there is one."""
        used = optimisers(self.recipe, self.model)
        progress = self.checkpoints.load(self.model, used)
        began = time.monotonic() - progress.seconds
        steps = range(progress.step, self.recipe.steps)
        # The range first: past its last step, no more rows are made.
        for step, (tokens, weights) in zip(steps, batches(self.recipe, self.epoch, progress.step), strict=False):
            value = self._step(used, step, tokens, weights)
            progress.step, progress.seconds = step + 1, round(time.monotonic() - began, 1)
            last = progress.step == self.recipe.steps
            if progress.step % self.recipe.log_every == 0 or last:
                self._log(progress, {"seconds": progress.seconds, "loss": round(value, 4)})
            if progress.step % self.recipe.evaluate_every == 0 or last:
                self._log(progress, asdict(self.held_out.read(self.model)))
                self.checkpoints.save(self.model, used, progress)

    def _log(self, progress: Progress, told: dict[str, Any]) -> None:
        line = {"step": progress.step, **told}
        progress.log.append(line)
        self.say(line)

    def _step(self, used: Sequence[torch.optim.Optimizer], step: int, tokens: Tensor, weights: Tensor) -> float:
        for optimiser in used:
            for group in optimiser.param_groups:
                group["lr"] = rate(self.recipe, step)
        device = self.model.device
        value = loss(self.model, tokens.to(device), weights.to(device))
        torch.autograd.backward(value)
        for optimiser in used:
            optimiser.step()
            optimiser.zero_grad()
        return float(value.detach())
