"""Tiny LLaMAs of several shapes, and the plain way to run them: one call of the unmodified model for each prompt."""

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from services.scorer.engine.engine import Engine
from services.scorer.engine.tasks import Task
from services.scorer.model import random_llama
from services.scorer.model.loading import Loaded
from services.scorer.templates import Template

LLAMA3_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 10_000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}


class ExactNorm(torch.nn.Module):
    """RMSNorm in the dtype of its input; the library's own always computes in float32, also within float64."""

    def __init__(self, norm: LlamaRMSNorm) -> None:
        super().__init__()
        self.weight, self.variance_epsilon = norm.weight, norm.variance_epsilon

    def forward(self, x: Tensor) -> Tensor:
        return self.weight * x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.variance_epsilon)


def tiny(
    layers: int = 2, heads: int = 4, kv_heads: int = 2, rope: dict[str, Any] | None = None, hidden: int = 32
) -> Any:
    """A LLaMA with random weights in float32, frozen."""
    config = LlamaConfig(
        vocab_size=len(random_llama.build_tokenizer()),
        hidden_size=hidden,
        intermediate_size=48,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        max_position_embeddings=256,
        rope_parameters=rope,
        tie_word_embeddings=False,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )
    torch.manual_seed(layers * 100 + heads * 10 + kv_heads)
    model = LlamaForCausalLM(config).eval().requires_grad_(False)
    for weight in model.parameters():
        weight.copy_(torch.randn(weight.shape) * (0.2 if weight.dim() > 1 else 0.1) + (weight.dim() == 1))
    return model


def exact(model: Any) -> Any:
    """The model in float64 throughout."""
    for module in list(model.modules()):
        for name, child in module.named_children():
            if isinstance(child, LlamaRMSNorm):
                setattr(module, name, ExactNorm(child))
    return model.double()


def loaded(model: Any) -> Loaded:
    return Loaded(model, random_llama.build_tokenizer(), "tiny", "0")


def save(folder: Path, model: Any | None = None) -> Path:
    """A checkpoint folder as the hub holds them."""
    (tiny() if model is None else model).save_pretrained(folder)
    random_llama.build_tokenizer().save_pretrained(folder)
    return folder


Slot = tuple[str | None, Tensor | None]
"""Text and vectors [k, hidden] of a slot."""


@lru_cache
def _tokenizer() -> Any:
    return random_llama.build_tokenizer()


def ids(text: str) -> list[int]:
    return _tokenizer()(text, add_special_tokens=False)["input_ids"]


def plain_prompt(model: Any, template: Template, slots: dict[str, Slot], *, whole: bool = True) -> Tensor:
    """The input vectors of one prompt, [1, T, hidden], written down part by part; not `whole`, up to the asked slot."""
    embed = model.get_input_embeddings()

    def words(text: str) -> Tensor:
        return embed(torch.tensor(ids(text), dtype=torch.long))

    parts = [embed(torch.tensor([_tokenizer().bos_token_id]))]
    for place, part in enumerate(template.parts):
        if place % 2 == 0:
            parts.append(words(part.rstrip(" ")))
            continue
        if not whole and part == template.asks:
            break
        text, vectors = slots[part]
        if text is not None:
            parts.append(words(" " + text))
        if vectors is not None:
            parts.append(vectors)
    return torch.cat(parts)[None]


def plain_state(model: Any, template: Template, slots: dict[str, Slot], layer: int | None = None) -> Tensor:
    """[hidden]: a hidden state where the asked slot would begin; the last by default."""
    prompt = plain_prompt(model, template, slots, whole=False)
    found = model.model(inputs_embeds=prompt, output_hidden_states=True)
    return found.last_hidden_state[0, -1] if layer is None else found.hidden_states[layer][0, -1]


def plain_answers(model: Any, template: Template, slots: dict[str, Slot], labels: list[str]) -> tuple[Tensor, Tensor]:
    """Logits of answers at the prompt's end, and of all tokens."""
    answers = [ids(" " + label) for label in labels]
    (lead,) = {tuple(answer[:-1]) for answer in answers}
    prompt = plain_prompt(model, template, slots)
    if lead:
        prompt = torch.cat([prompt, model.get_input_embeddings()(torch.tensor(lead))[None]], dim=1)
    logits = model(inputs_embeds=prompt).logits[0, -1]
    return logits[[answer[-1] for answer in answers]], logits


def plain_score(model: Any, template: Template, slots: dict[str, Slot]) -> Tensor:
    """logit(first label) - logit(second label) at the prompt's end."""
    found, _ = plain_answers(model, template, slots, list(template.labels))
    return found[0] - found[1]


def plain_number(model: Any, template: Template, slots: dict[str, Slot]) -> Tensor:
    """The expected digit."""
    found, _ = plain_answers(model, template, slots, list("0123456789"))
    return (found.softmax(0) * torch.arange(10)).sum()


def plain_likelihood(model: Any, template: Template, slots: dict[str, Slot]) -> Tensor:
    """Mean log-probability of the asked slot's tokens."""
    asked = ids(" " + str(slots[template.asks][0]))
    prompt = plain_prompt(model, template, slots, whole=False)
    whole = torch.cat([prompt, model.get_input_embeddings()(torch.tensor(asked))[None]], dim=1)
    logits = model(inputs_embeds=whole).logits[0, prompt.shape[1] - 1 : -1]
    return logits.log_softmax(1).gather(1, torch.tensor(asked)[:, None]).mean()


def complete(engine: Engine, task: Task) -> Any:
    """Run a task to its end, alone."""
    if task.ran is not None:
        engine.backward(task)
    while task.next:
        engine.run([task.take()])
    engine.finish(task)
    return task.result()


def difference(first: Any, second: Any) -> float:
    return float(np.abs(np.asarray(first) - np.asarray(second)).max())
