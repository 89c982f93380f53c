"""Claim: 1,000 clients that wait for a round to open all learn of it within 2 s, and no request fails.

Each is a member that long-polls `GET /round` on a connection of its own. Run: `python -m benchmarks.waiting`
"""

import asyncio
import hashlib
import statistics
import time

import httpx

from benchmarks.federation import Coordinator, coordinator, entity_keys, signer_of
from benchmarks.measure import show
from protocol.rounds import RoundView
from protocol.signatures import Signer, content_digest
from protocol.trainings import TrainingSettings

CLIENTS = 1_000
OPENINGS = 3
EMPTY = content_digest(b"")


async def waits(http: httpx.AsyncClient, url: str, signer: Signer, after: int) -> tuple[float, RoundView]:
    """One long poll; when it was answered, and with what."""
    path = f"/round?wait=30&after={after}"
    reply = await http.get(url + path, headers=signer.headers("GET", url + path, EMPTY))
    at = time.perf_counter()
    reply.raise_for_status()
    return at, RoundView.model_validate_json(reply.content)


async def opening(running: Coordinator, http: httpx.AsyncClient, signers: list[Signer]) -> tuple[float, list[float]]:
    """All wait, a training is started; seconds until each saw its round."""
    event = running.operator("GET", "/round")["event"]
    start = time.perf_counter()
    polls = [asyncio.create_task(waits(http, running.url, signer, event)) for signer in signers]
    await asyncio.sleep(4)
    waiting = time.perf_counter() - start
    settings = TrainingSettings(interaction="transe", dim=8, clients=len(signers), quorum=1)
    opened = time.perf_counter()
    await asyncio.to_thread(running.operator, "POST", "/round", settings.model_dump(mode="json"))
    seen = []
    for poll, signer in zip(polls, signers, strict=True):
        at, view = await poll
        while view.phase != "training":
            at, view = await waits(http, running.url, signer, view.event)
        assert view.selected
        seen.append(at - opened)
    await asyncio.to_thread(running.operator, "POST", "/round/stop")
    return waiting, seen


async def measure(running: Coordinator, signers: list[Signer]) -> list[list[float]]:
    """Several openings."""
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
    async with httpx.AsyncClient(timeout=60, limits=limits, trust_env=False) as http:
        return [(await opening(running, http, signers))[1] for _ in range(OPENINGS)]


def main() -> None:
    """Measure and print."""
    signers = [signer_of(f"client {i}") for i in range(CLIENTS)]
    with coordinator() as running:
        for i, signer in enumerate(signers):
            running.join(signer, f"client {i}", [*entity_keys(1), hashlib.sha256(f"own {i}".encode()).hexdigest()])
        openings = asyncio.run(measure(running, signers))
    rows = [(str(i + 1), f"{statistics.median(s):.2f} s", f"{max(s):.2f} s") for i, s in enumerate(openings)]
    worst = max(max(seconds) for seconds in openings)
    result = {"clients": CLIENTS, "slowest_seconds": worst, "median": statistics.median(openings[-1])}
    show(f"{CLIENTS:,} clients wait for a round to open", rows, ("opening", "median", "slowest"), result)


if __name__ == "__main__":
    main()
