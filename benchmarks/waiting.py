"""Claim: 1,000 clients that wait for a round to open all learn of it within 2 s, and no request fails.

Each is a member that long-polls `GET /round` on a connection of its own. Run: `python -m benchmarks.waiting`
"""

import asyncio
import hashlib
import re
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
IDLE_SECONDS = 3
EMPTY = content_digest(b"")


class Poller:
    """One client on a connection of its own. A client library's pool would take longer than the coordinator does."""

    def __init__(self, url: httpx.URL, signer: Signer) -> None:
        self._url, self._signer = url, signer

    async def connect(self) -> None:
        """Open the connection."""
        self._reader, self._writer = await asyncio.open_connection(self._url.host, self._url.port)

    async def poll(self, after: int) -> tuple[float, RoundView]:
        """One long poll; when it was answered, and with what."""
        path = f"/round?wait=30&after={after}"
        headers = self._signer.headers("GET", f"{self._url}{path}", EMPTY)
        lines = [f"GET {path} HTTP/1.1", "Host: coordinator", *(f"{name}: {value}" for name, value in headers.items())]
        self._writer.write("\r\n".join([*lines, "", ""]).encode())
        head = await self._reader.readuntil(b"\r\n\r\n")
        at = time.perf_counter()
        length = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
        assert head.startswith(b"HTTP/1.1 200 "), head
        assert length is not None
        return at, RoundView.model_validate_json(await self._reader.readexactly(int(length[1])))


async def opening(running: Coordinator, pollers: list[Poller]) -> list[float]:
    """All wait, a training is started; seconds until each saw its round."""
    event = running.operator("GET", "/round")["event"]
    polls = [asyncio.create_task(poller.poll(event)) for poller in pollers]
    await _parked(running)
    settings = TrainingSettings(interaction="transe", dim=8, clients=len(pollers), quorum=1)
    opened = time.perf_counter()
    await asyncio.to_thread(running.operator, "POST", "/round", settings.model_dump(mode="json"))
    seen = []
    for poll, poller in zip(polls, pollers, strict=True):
        at, view = await poll
        while view.phase != "training":
            at, view = await poller.poll(view.event)
        assert view.selected
        seen.append(at - opened)
    await asyncio.to_thread(running.operator, "POST", "/round/stop")
    return seen


async def _parked(running: Coordinator) -> None:
    """Until all polls have been sent and read: neither this process nor the coordinator has anything to do."""
    idle = 0
    while idle < IDLE_SECONDS:
        start, busy = time.perf_counter(), running.cpu_seconds
        await asyncio.sleep(1)
        late = time.perf_counter() - start - 1
        idle = idle + 1 if late < 0.05 and running.cpu_seconds - busy < 0.05 else 0


async def measure(running: Coordinator, signers: list[Signer]) -> list[list[float]]:
    """Several openings."""
    pollers = [Poller(httpx.URL(running.url), signer) for signer in signers]
    for poller in pollers:
        await poller.connect()
    return [await opening(running, pollers) for _ in range(OPENINGS)]


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
