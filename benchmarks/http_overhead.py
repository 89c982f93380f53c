"""Claim: HTTP, parsing and batching cost little: `POST /score` has 95 % of the engine's own throughput.

The engine in this process, on as many threads, runs the same call that is then sent.
Run: `python -m benchmarks.http_overhead`
"""

import torch

from benchmarks.measure import in_turn, show
from benchmarks.subject import SMOLLM2_135M, THREADS, arrays, call_of, candidates, checkpoint, engine, post, scorer
from protocol import tensors

CANDIDATES = 64
ROUNDS = 11


def main() -> None:
    """Measure and print."""
    torch.set_num_threads(THREADS)
    folder = checkpoint()
    parts = arrays(candidates(CANDIDATES), SMOLLM2_135M["hidden_size"])
    body, call = tensors.encode(parts), call_of(parts)
    here = engine(folder)

    def in_process() -> None:
        task = here.score(call)
        while task.next:
            here.run([task.take()])
        task.result()

    with scorer(folder) as client:
        taken = in_turn(ROUNDS, engine=in_process, http=lambda: post(client, "/score", body))
    rows = [(name, f"{seconds * 1000:.1f} ms", f"{CANDIDATES / seconds:.1f}") for name, seconds in taken.items()]
    result = {"share_of_engine": taken["engine"] / taken["http"], "candidates": CANDIDATES, "bytes": len(body)}
    show(f"{CANDIDATES} candidates, a body of {len(body) >> 10} KiB", rows, ("way", "time", "triples/s"), result)


if __name__ == "__main__":
    main()
