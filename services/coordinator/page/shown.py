"""What many watchers look at is read once: the overview of a training, for about a second."""

import asyncio
import time

from starlette.concurrency import run_in_threadpool

from services.coordinator.page.overview import Overview, overview
from services.coordinator.store.store import Store

FRESH_SECONDS = 1.0
Asked = tuple[str | None, str | None]


class Shown:
    """Reads overviews, one at a time: however many watch, they take one of the threads that clients need."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = asyncio.Lock()
        self._read: dict[Asked, tuple[float, Overview]] = {}

    async def of(self, training: str | None, other: str | None) -> Overview:
        """As `overview`, which says what is raised; at most so old that nobody sees it."""
        asked = (training, other)
        async with self._lock:
            now = time.monotonic()
            self._read = {key: kept for key, kept in self._read.items() if now - kept[0] < FRESH_SECONDS}
            if asked not in self._read:
                found = await run_in_threadpool(overview, self._store, training, other)
                self._read[asked] = (time.monotonic(), found)
            return self._read[asked][1]
