"""Ways to share a prefix: plain transformers calls, and what the scorer does, for scores and for gradients.

A packed row holds the prefix once and all candidates after it, kept apart by a mask and by their position ids. A prefix
cache repeats keys and values for a batch of candidates. The scorer keeps a tree of positions, and attends to a shared
context and to a candidate's own positions apart, without a mask.
Run: `python -m benchmarks.prefix_ways [--device cuda]`
"""

import argparse
from collections.abc import Callable

import torch
from torch import Tensor
from transformers import DynamicCache, LlamaForCausalLM

from benchmarks.measure import in_turn, show
from benchmarks.subject import (
    PREFIX,
    SMOLLM2_135M,
    SUFFIX,
    THREADS,
    arrays,
    call_of,
    candidates,
    checkpoint,
    engine,
)

CANDIDATES = 64
ROUNDS = 5


def packed_mask(candidates: int, device: str, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """The mask [1, 1, T, T] and the position ids [1, T] of one packed row."""
    block = torch.cat([torch.zeros(PREFIX), torch.arange(1, candidates + 1).repeat_interleave(SUFFIX)]).to(device)
    places = torch.arange(len(block), device=device)
    seen = (places[None] <= places[:, None]) & ((block[None] == 0) | (block[None] == block[:, None]))
    steps = torch.arange(SUFFIX, device=device).repeat(candidates) + PREFIX
    mask = torch.zeros(seen.shape, dtype=dtype, device=device).masked_fill(~seen, torch.finfo(dtype).min)
    return mask[None, None], torch.cat([places[:PREFIX], steps])[None]


def packed_row(model: LlamaForCausalLM, rows: Tensor) -> Callable[[], Tensor]:
    """Logits at each candidate's end, [1, candidates, vocabulary]."""
    mask, positions = packed_mask(CANDIDATES, str(rows.device), rows.dtype)
    ends = torch.arange(CANDIDATES, device=rows.device) * SUFFIX + PREFIX + SUFFIX - 1

    def run() -> Tensor:
        logits: Tensor = model(
            inputs_embeds=rows, attention_mask=mask, position_ids=positions, logits_to_keep=ends, use_cache=False
        ).logits
        return logits

    return run


def prefix_cache(model: LlamaForCausalLM, rows: Tensor) -> Callable[[], Tensor]:
    """Logits at each candidate's end, [candidates, 1, vocabulary]."""
    suffixes = rows[0, PREFIX:].view(CANDIDATES, SUFFIX, -1)

    def run() -> Tensor:
        cache = DynamicCache()
        model(inputs_embeds=rows[:, :PREFIX], past_key_values=cache, logits_to_keep=1)
        cache.batch_repeat_interleave(CANDIDATES)
        logits: Tensor = model(inputs_embeds=suffixes, past_key_values=cache, logits_to_keep=1).logits
        return logits

    return run


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    device = parser.parse_args().device
    torch.set_num_threads(THREADS)
    folder = checkpoint()
    here = engine(folder, device=device)
    dtype = torch.float32 if device == "cpu" else torch.bfloat16
    model = LlamaForCausalLM.from_pretrained(folder, dtype=dtype).to(device).eval().requires_grad_(False)
    hidden = SMOLLM2_135M["hidden_size"]
    call = call_of(arrays(candidates(CANDIDATES), hidden))
    rows = (torch.randn(1, PREFIX + CANDIDATES * SUFFIX, hidden) * 0.04).to(device, dtype)
    leaf = rows.clone().requires_grad_()

    def without_gradient(run: Callable[[], Tensor]) -> Callable[[], object]:
        def call() -> None:
            with torch.no_grad():
                run()
            if device == "cuda":
                torch.cuda.synchronize()

        return call

    def with_gradient(run: Callable[[], Tensor]) -> Callable[[], object]:
        def call() -> None:
            logits = run().flatten(0, 1)
            torch.autograd.grad((logits[:, 5] - logits[:, 6]).sum(), leaf)
            if device == "cuda":
                torch.cuda.synchronize()

        return call

    def tree() -> None:
        task = here.score(call)
        while task.next:
            here.run([task.take()])
        task.result()

    taken = in_turn(
        ROUNDS,
        packed_row=without_gradient(packed_row(model, rows)),
        prefix_cache=without_gradient(prefix_cache(model, rows)),
        tree=tree,
        packed_row_gradient=with_gradient(packed_row(model, leaf)),
        prefix_cache_gradient=with_gradient(prefix_cache(model, leaf)),
    )
    rows_shown = [(name, f"{s * 1000:.0f} ms", f"{CANDIDATES / s:.1f}") for name, s in taken.items()]
    result = {name: CANDIDATES / seconds for name, seconds in taken.items()}
    show(f"{CANDIDATES} candidates on {device}, triples/s", rows_shown, ("way", "time", "triples/s"), result)


if __name__ == "__main__":
    main()
