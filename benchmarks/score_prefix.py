"""Claims: `POST /score` of candidates that share a prefix beats plain transformers calls, near the machine's rate.

64 candidates of one (head, relation), vector slots, 40 positions before the tail and 6 from it on, a LLaMA of
SmolLM2-135M's shape in float32. Run: `python -m benchmarks.score_prefix`
"""

import torch
from transformers import LlamaForCausalLM

from benchmarks.measure import forward_flops, in_turn, product_flops, products, show
from benchmarks.subject import (
    PREFIX,
    SMOLLM2_135M,
    SUFFIX,
    THREADS,
    arrays,
    candidates,
    checkpoint,
    post,
    scorer,
    usage_of,
)
from protocol import tensors

CANDIDATES = 64
ROUNDS = 5


def main() -> None:
    """Measure and print."""
    torch.set_num_threads(THREADS)
    folder = checkpoint()
    hidden = SMOLLM2_135M["hidden_size"]
    body = tensors.encode(arrays(candidates(CANDIDATES), hidden))
    model = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32).eval().requires_grad_(False)
    # Of the same size; a plain caller would put the same vectors between the prompt's own embeddings.
    prompts = torch.randn(CANDIDATES, PREFIX + SUFFIX, hidden) * 0.04

    def loop() -> None:
        with torch.no_grad():
            for prompt in prompts:
                model(inputs_embeds=prompt[None], logits_to_keep=1, use_cache=False)

    def padded() -> None:
        with torch.no_grad():
            model(inputs_embeds=prompts, logits_to_keep=1, use_cache=False)

    with scorer(folder) as client:
        ran = usage_of(post(client, "/score", body))
        taken = in_turn(
            ROUNDS, products=products(), scorer=lambda: post(client, "/score", body), padded=padded, loop=loop
        )
    tokens = ran["tokens"] - ran["shared_tokens"]
    rate = product_flops() / taken["products"]
    flops = forward_flops(SMOLLM2_135M, tokens, PREFIX + SUFFIX // 2, CANDIDATES)
    result = {
        "against_loop": taken["loop"] / taken["scorer"],
        "against_padded": taken["padded"] / taken["scorer"],
        "share_of_rate": flops / taken["scorer"] / rate,
        "gflops": rate / 1e9,
    }
    rows = [
        (name, f"{taken[name] * 1000:.0f} ms", f"{CANDIDATES / taken[name]:.1f}", f"{taken['loop'] / taken[name]:.2f}")
        for name in ("loop", "padded", "scorer")
    ]
    title = (
        f"{CANDIDATES} candidates; {tokens} of {ran['tokens']} tokens ran, at {result['share_of_rate']:.0%} of the rate"
    )
    show(title, rows, ("way", "time", "triples/s", "against the loop"), result)


if __name__ == "__main__":
    main()
