"""Claim: 32 callers with 8 triples each have 90 % of the throughput of one caller with 256.

The same triples: 32 (head, relation), 8 candidates each. Run: `python -m benchmarks.many_callers`
"""

from concurrent.futures import ThreadPoolExecutor

import httpx
import numpy as np

from benchmarks.measure import in_turn, show
from benchmarks.subject import SMOLLM2_135M, arrays, candidates, checkpoint, post, scorer
from protocol import tensors

CALLERS, EACH = 32, 8
REPEATS = 2
ROUNDS = 3


def bodies(hidden: int) -> tuple[bytes, list[bytes]]:
    """All triples in one body, and the same in one a caller."""
    together = candidates(EACH, CALLERS)
    parts = arrays(together, hidden)
    each = []
    for caller in range(CALLERS):
        own = together[caller * EACH : (caller + 1) * EACH]
        rows, places = np.unique(own[:, [0, 2]], return_inverse=True)
        heads, tails = places.reshape(-1, 2).T
        triples = np.stack([heads, np.zeros(EACH, dtype=np.int64), tails], axis=1).astype(np.int32)
        held = {"entities": parts["entities"][rows], "relations": parts["relations"][[caller]]}
        each.append(tensors.encode(held | {"triples": triples}))
    return tensors.encode(parts), each


def main() -> None:
    """Measure and print."""
    one, each = bodies(SMOLLM2_135M["hidden_size"])
    with scorer(checkpoint()) as client, ThreadPoolExecutor(CALLERS) as pool:
        clients = [httpx.Client(base_url=client.base_url, timeout=600) for _ in range(CALLERS)]

        def call(number: int) -> None:
            for _ in range(REPEATS):
                post(clients[number], "/score", each[number])

        def callers() -> None:
            list(pool.map(call, range(CALLERS)))

        def alone() -> None:
            for _ in range(REPEATS):
                post(client, "/score", one)

        taken = in_turn(ROUNDS, one=alone, many=callers)
    total = CALLERS * EACH * REPEATS
    rows = [(name, f"{seconds:.2f} s", f"{total / seconds:.1f}") for name, seconds in taken.items()]
    result = {"share_of_one_caller": taken["one"] / taken["many"], "callers": CALLERS, "each": EACH}
    show(f"{CALLERS} callers with {EACH} triples, {REPEATS} calls each", rows, ("callers", "time", "triples/s"), result)


if __name__ == "__main__":
    main()
