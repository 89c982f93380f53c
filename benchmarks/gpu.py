"""Claims on a GPU: scores at 55 % and gradients at 45 % of the card's bfloat16 matrix-product rate.

Llama-2-7B's shape, random weights, 32 (head, relation) with 128 candidates each, the engine in this process; and the
plain ways to share a prefix for one of these queries. Run: `python -m benchmarks.gpu`, or `--small` for a look at it
without a GPU.
"""

import argparse
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from benchmarks.measure import forward_flops, in_turn, product_flops, products, show
from benchmarks.prefix_ways import CANDIDATES, packed_row, prefix_cache
from benchmarks.subject import PREFIX, SUFFIX, arrays, call_of, candidates
from services.scorer.engine.engine import Engine
from services.scorer.engine.tasks import Task
from services.scorer.model.loading import Loaded
from services.scorer.model.random_llama import build_tokenizer
from services.scorer.requests import ScoreGradient
from services.scorer.settings import Settings
from services.scorer.templates import load as load_templates

LLAMA2_7B = {
    "vocab_size": 32_000,
    "hidden_size": 4_096,
    "intermediate_size": 11_008,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 32,
    "max_position_embeddings": 4_096,
    "tie_word_embeddings": False,
}
"""The shape of Llama-2-7B (its config.json)."""
SMALL = LLAMA2_7B | {"hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 2, "num_attention_heads": 4}
QUERIES, EACH = 32, 128
ROUNDS = 5
MATRIX = 8_192


def model_of(shape: dict[str, int], device: str) -> LlamaForCausalLM:
    """A model with random weights, frozen, made where it runs."""
    torch.manual_seed(0)
    with torch.device(device):
        torch.set_default_dtype(torch.bfloat16)
        model = LlamaForCausalLM(LlamaConfig(**shape, pad_token_id=0, bos_token_id=1, eos_token_id=2))
        torch.set_default_dtype(torch.float32)
    return model.eval().requires_grad_(False)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--small", action="store_true", help="A tiny shape, on the CPU.")
    small = parser.parse_args().small
    device, size = ("cpu", 512) if small else ("cuda", MATRIX)
    shape = SMALL | {"num_key_value_heads": 4} if small else LLAMA2_7B
    model = model_of(shape, device)
    loaded = Loaded(model, build_tokenizer(), "random", "0")
    engine = Engine(loaded, load_templates(), Settings().limits(4_096), memory=24 << 30)
    call = call_of(arrays(candidates(EACH, QUERIES), shape["hidden_size"]))
    given = ScoreGradient(grad_scores=np.ones(len(call.triples), dtype=np.float32))
    rows = (torch.randn(1, PREFIX + CANDIDATES * SUFFIX, shape["hidden_size"]) * 0.04).to(device, torch.bfloat16)

    def run(make: Callable[[], Task]) -> Callable[[], None]:
        def whole() -> None:
            task = make()
            while task.next:
                engine.run([task.take()])
            task.result()

        return whole

    def plain(way: Callable[[], Tensor]) -> Callable[[], None]:
        def whole() -> None:
            with torch.no_grad():
                way().sum().item()

        return whole

    taken = in_turn(
        ROUNDS,
        products=products(torch.bfloat16, device, size),
        score=run(lambda: engine.score(call)),
        gradient=run(lambda: engine.score_gradient(call, given)),
        packed_row=plain(packed_row(model, rows)),
        prefix_cache=plain(prefix_cache(model, rows)),
    )
    usage = engine.score(call).plan.usage
    tokens, reads = usage.tokens - usage.shared_tokens, len(call.triples)
    rate = product_flops(size) / taken["products"]
    seen = PREFIX + SUFFIX // 2
    score = forward_flops(shape, tokens, seen, reads) / taken["score"] / rate
    # With respect to the inputs alone, a backward pass has as many operations as the forward pass.
    gradient = 2 * forward_flops(shape, tokens, seen, reads, vocabulary=False) / taken["gradient"] / rate
    counts = {"score": reads, "gradient": reads, "packed_row": CANDIDATES, "prefix_cache": CANDIDATES}
    shown = [(name, f"{taken[name] * 1000:.1f} ms", f"{n / taken[name]:.0f}") for name, n in counts.items()]
    result = {"score_share": score, "gradient_share": gradient, "tflops": rate / 1e12, "device": device}
    title = f"{reads} triples, {tokens} tokens; {score:.0%} and {gradient:.0%} of the rate"
    show(title, shown, ("way", "time", "triples/s"), result)


if __name__ == "__main__":
    main()
