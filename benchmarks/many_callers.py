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
REPEATS = 3
ROUNDS = 5


def main() -> None:
    """Measure and print."""
    hidden = SMOLLM2_135M["hidden_size"]
    together = candidates(EACH, CALLERS)
    one = tensors.encode(arrays(together, hidden))
    parts = arrays(together, hidden)
    many = []
    for caller in range(CALLERS):
        own = together[caller * EACH : (caller + 1) * EACH]
        rows, triples = np.unique(own[:, [0, 2]], return_inverse=True)
        entities = parts["entities"][rows]
        relations = parts["relations"][[caller]]
        indices = np.stack([triples.reshape(-1, 2)[:, 0], np.zeros(EACH, int), triples.reshape(-1, 2)[:, 1]], axis=1)
        many.append(tensors.encode({"entities": entities, "relations": relations, "triples": indices.astype(np.int32)}))
    with scorer(checkpoint()) as client, ThreadPoolExecutor(CALLERS) as pool:
        clients = [httpx.Client(base_url=client.base_url, timeout=600) for _ in range(CALLERS)]

        def caller(number: int) -> None:
            for _ in range(REPEATS):
                post(clients[number], "/score", many[number])

        def callers() -> None:
            list(pool.map(caller, range(CALLERS)))

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
