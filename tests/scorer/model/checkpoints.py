"""Checkpoint folders of tiny LLaMAs, as the hub holds them."""

from pathlib import Path
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from services.scorer.model import random_llama

SHAPE = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
}


def write(folder: Path, shards: str = "5GB", pad: bool = True, **config: Any) -> Any:
    """Save a LLaMA with random weights and its tokenizer; the model, in float32 and frozen.

    Args:
        folder: Where to; it is made.
        shards: The size at which a new file of weights begins.
        pad: Whether the tokenizer has a pad token.
        config: What differs from `SHAPE`.
    """
    tokenizer = random_llama.build_tokenizer()
    special = {"vocab_size": len(tokenizer), "pad_token_id": 0 if pad else None, "bos_token_id": 1, "eos_token_id": 2}
    torch.manual_seed(1)
    model = LlamaForCausalLM(LlamaConfig(**(special | SHAPE | config))).eval().requires_grad_(False)
    for weight in model.parameters():
        # Large enough that every layer changes its input about as much as a trained one.
        weight.normal_(1.0, 0.1) if weight.dim() == 1 else weight.normal_(0.0, weight.shape[1] ** -0.5)
    model.save_pretrained(folder, max_shard_size=shards)
    if not pad:
        tokenizer.pad_token = None
    tokenizer.save_pretrained(folder)
    return model


def logits(model: Any, length: int = 200) -> torch.Tensor:
    """What a model says of one long prompt, float32 [length, vocabulary]; the same prompt each time."""
    ids = torch.arange(length)[None] % 97 + 3
    with torch.no_grad():
        found: torch.Tensor = model(ids).logits[0]
    return found.float()
