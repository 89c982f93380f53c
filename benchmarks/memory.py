"""Claim: the scorer's memory stays flat while 100,000 triples go through it, for scores and for gradients.

The model `random` and, with fewer triples, SmolLM2-135M's shape. Run: `python -m benchmarks.memory [--large]`
"""

import argparse

import httpx
import numpy as np
import psutil

from benchmarks.measure import show
from benchmarks.subject import SMOLLM2_135M, arrays, candidates, checkpoint, post, scorer
from protocol import tensors
from services.scorer.settings import Settings

TRIPLES, EACH = 100_000, 2_000
LARGE_TRIPLES, LARGE_EACH = 4_000, 500


def resident(client: httpx.Client) -> float:
    """MiB that the server of a client holds."""
    port = client.base_url.port
    listening = next(c for c in psutil.net_connections("tcp") if c.laddr.port == port and c.status == "LISTEN")
    return float(psutil.Process(listening.pid).memory_info().rss) / 2**20


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--large", action="store_true", help="SmolLM2-135M's shape, 4,000 triples (some minutes)")
    large = parser.parse_args().large
    folder, hidden = (str(checkpoint()), SMOLLM2_135M["hidden_size"]) if large else ("random", Settings().random_hidden)
    triples, each = (LARGE_TRIPLES, LARGE_EACH) if large else (TRIPLES, EACH)
    parts = arrays(candidates(100, each // 100), hidden)
    scored = tensors.encode(parts)
    given = tensors.encode(parts | {"grad_scores": np.ones(each, dtype=np.float32)})
    seen = []
    with scorer(folder) as client:
        for _ in range(triples // each // 2):
            post(client, "/score", scored)
            post(client, "/score/gradient", given)
            seen.append(resident(client))
    quarter = max(1, len(seen) // 4)
    first, last = max(seen[:quarter]), max(seen[-quarter:])
    rows = [
        ("first quarter", f"{first:.0f} MiB"),
        ("last quarter", f"{last:.0f} MiB"),
        ("peak", f"{max(seen):.0f} MiB"),
    ]
    result = {"triples": triples, "first_mib": first, "last_mib": last, "growth": last / first}
    show(f"resident memory while {triples:,} triples go through", rows, ("when", "memory"), result)


if __name__ == "__main__":
    main()
