"""The background worker: advances rounds when something came in or a deadline may have passed, and wakes who waits."""

import asyncio
import contextlib
import logging

from services.coordinator.rounds import advance
from services.coordinator.store import Store
from services.coordinator.views import current_event

log = logging.getLogger(__name__)

TICK_SECONDS = 1.0
"""Deadlines fire at most so late, and waiters learn so late of what another process changed."""


class Worker:
    """Runs on the event loop; everything that blocks runs in threads.

    Attributes:
        changed: Set, and replaced by a new one, when the event counter has grown. Take it *before* looking at the
            state, then wait for it: no change is missed between the two.
        fault: What the last tick failed with, None if it went well. The next tick tries again.
        stopping: Whether the server is told to end, so that nobody should wait any longer.
    """

    def __init__(self, store: Store) -> None:
        self.changed = asyncio.Event()
        self.fault: Exception | None = None
        self.stopping = False
        self._store = store
        self._kicked = asyncio.Event()
        self._event = -1

    def kick(self) -> None:
        """Tick now: something was stored."""
        self._kicked.set()

    def release(self) -> None:
        """Let everybody who waits go, and nobody wait again: a server that ends waits for its requests."""
        self.stopping = True
        self._wake()

    async def run(self) -> None:
        """Tick until cancelled."""
        while True:
            self._kicked.clear()
            await self._tick()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._kicked.wait(), TICK_SECONDS)

    async def _tick(self) -> None:
        try:
            await asyncio.to_thread(advance, self._store)
            event = await asyncio.to_thread(current_event, self._store)
            self.fault = None
        except Exception as error:
            log.exception("rounds do not advance; trying again")
            self.fault = error
            return
        if event != self._event:
            self._event = event
            self._wake()

    def _wake(self) -> None:
        self.changed.set()
        self.changed = asyncio.Event()
