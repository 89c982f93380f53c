"""Claim: a training step over HTTP takes at most 1.3 times what it takes with autograd in one process.

A step: states of 64 queries, cross-entropy of their dot products with 1,000 candidates, gradients of all vectors. In
one process: plain transformers with autograd, one padded batch, frozen weights. Over HTTP:
`/encode` with `keep`, then `/encode/gradient`; without `keep`; and the pointwise form, `/score/gradient` with a loss
computed beside the model, against autograd over the same prompts. Run: `python -m benchmarks.training_step`
"""

import numpy as np
import torch
import torch.nn.functional as F
from transformers import LlamaForCausalLM

from benchmarks.measure import in_turn, show
from benchmarks.subject import (
    HEAD_VECTORS,
    PREFIX,
    RELATION_VECTORS,
    SMOLLM2_135M,
    SUFFIX,
    THREADS,
    arrays,
    candidates,
    checkpoint,
    post,
    scorer,
)
from protocol import tensors
from protocol.encoding import ENCODE_REPLY_TENSORS

QUERIES, CANDIDATES = 64, 1_000
GROUPS, NEGATIVES = 4, 15
POSITIONS = 3 + HEAD_VECTORS + 3 + RELATION_VECTORS + 3
"""Of a query: `<s>head:`, the head, a line, `relation:`, the relation, a line, `tail:`."""
ROUNDS = 3


def main() -> None:
    """Measure and print."""
    torch.set_num_threads(THREADS)
    folder = checkpoint()
    hidden = SMOLLM2_135M["hidden_size"]
    model = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32).eval().requires_grad_(False)
    random = np.random.default_rng(0)
    table = torch.from_numpy(random.normal(0, 1, (CANDIDATES, hidden)).astype(np.float32))
    answers = torch.arange(QUERIES)
    queries = np.stack([np.arange(QUERIES), np.arange(QUERIES) % 8], axis=1)
    sent = arrays(np.insert(queries, 2, 0, axis=1), hidden)
    sent = {"entities": sent["entities"], "relations": sent["relations"], "queries": queries.astype(np.int32)}

    def autograd() -> None:
        prompts = (torch.randn(QUERIES, POSITIONS, hidden) * 0.04).requires_grad_()
        states = model.model(inputs_embeds=prompts, use_cache=False).last_hidden_state[:, -1]
        F.cross_entropy(states @ table.T, answers).backward()

    def over_http(keep: bool) -> None:
        reply = post(client, "/encode", tensors.encode(sent, {"keep": keep}))
        found, _ = tensors.decode(reply, ENCODE_REPLY_TENSORS)
        states = torch.from_numpy(found["states"].copy()).requires_grad_()
        F.cross_entropy(states @ table.T, answers).backward()
        assert states.grad is not None
        post(client, "/encode/gradient", tensors.encode(sent | {"grad_states": states.grad.numpy()}))

    triples = candidates(1 + NEGATIVES, GROUPS)
    groups = np.repeat(np.arange(GROUPS), 1 + NEGATIVES).astype(np.int32)
    scored = tensors.encode(arrays(triples, hidden) | {"groups": groups}, {"loss": {"name": "cross_entropy"}})

    def pointwise() -> None:
        prompts = (torch.randn(len(triples), PREFIX + SUFFIX, hidden) * 0.04).requires_grad_()
        logits = model(inputs_embeds=prompts, logits_to_keep=1, use_cache=False).logits[:, 0]
        scores = (logits[:, 5] - logits[:, 6]).view(GROUPS, -1)
        F.cross_entropy(scores, torch.zeros(GROUPS, dtype=torch.int64)).backward()

    with scorer(folder, SCORER_KEEP_BYTES=str(8 << 30)) as client:
        taken = in_turn(
            ROUNDS,
            autograd=autograd,
            kept=lambda: over_http(True),
            stateless=lambda: over_http(False),
            pointwise=pointwise,
            fused=lambda: post(client, "/score/gradient", scored),
        )
    reference = {"autograd": "autograd", "kept": "autograd", "stateless": "autograd"}
    reference |= {"pointwise": "pointwise", "fused": "pointwise"}
    ratios = {name: taken[name] / taken[other] for name, other in reference.items()}
    rows = [(name, f"{taken[name] * 1000:.0f} ms", f"{ratios[name]:.2f}") for name in taken]
    result = {f"{name}_against_autograd": ratios[name] for name in ("kept", "stateless", "fused")}
    show(
        f"a step of {QUERIES} queries, or of {len(triples)} triples", rows, ("way", "time", "against autograd"), result
    )


if __name__ == "__main__":
    main()
