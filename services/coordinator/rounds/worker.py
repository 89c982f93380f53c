"""The background worker: advances rounds when something came in or a deadline may have passed, and wakes who waits."""

import asyncio
import contextlib
from collections.abc import Callable

import structlog

from services.coordinator.rounds.advance import advance
from services.coordinator.rounds.views import Snapshot, Views
from services.coordinator.store.store import Store

log: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(__name__)

TICK_SECONDS = 1.0
"""Deadlines fire at most so late, and waiters learn so late of what another process changed."""


class Worker:
    """Runs on the event loop; everything that blocks runs in threads.

    Attributes:
        changed: Set, and replaced by a new one, when the event counter has grown. Take it *before* looking at the
            state, then wait for it: no change is missed between the two.
        views: The round as callers see it.
        latest: The snapshot that `changed` told of last; None before the first.
        fault: What the last tick failed with, None if it went well. The next tick tries again.
        stopping: Whether the server is told to end, so that nobody should wait any longer.
    """

    def __init__(self, store: Store, ticked: Callable[[Snapshot], None] = lambda snapshot: None) -> None:
        """`ticked` is told of the snapshot of every change."""
        self.changed = asyncio.Event()
        self.views = Views(store)
        self.latest: Snapshot | None = None
        self.fault: Exception | None = None
        self.stopping = False
        self._store = store
        self._ticked = ticked
        self._kicked = asyncio.Event()
        self._kicks = self._latest_kicks = 0

    def kick(self) -> None:
        """Tick now: something was stored."""
        self._kicks += 1
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

    async def snapshot_after(self, event: int | None, seconds: float) -> Snapshot:
        """The snapshot at once, or where `event` is given, as soon as one is later than that, or the time is up.

        Who waits is told of every change anyway, so that a thousand of them need not ask the database first. But a
        snapshot from before what the caller itself has just sent would have it do the same again.
        """
        if event is None or seconds <= 0 or self.latest is None:
            return await asyncio.to_thread(self.views.now)
        clock = asyncio.get_running_loop().time
        until, kicks = clock() + seconds, self._kicks
        while clock() < until and not self.stopping:
            changed = self.changed
            if self.latest.event > event and self._latest_kicks >= kicks:
                break
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(changed.wait(), until - clock())
        else:
            return await asyncio.to_thread(self.views.now)
        return self.latest

    async def _tick(self) -> None:
        try:
            # What was stored is shown before rounds advance, since making a version may take minutes.
            await self._show()
            await asyncio.to_thread(advance, self._store)
            await self._show()
            self.fault = None
        except Exception as error:
            log.exception("rounds do not advance; trying again")
            self.fault = error

    async def _show(self) -> None:
        """Take the present snapshot, and wake who waits for a change."""
        kicks = self._kicks
        snapshot = await asyncio.to_thread(self.views.now)
        new = self.latest is None or snapshot.event != self.latest.event
        if new:
            self._ticked(snapshot)
        if new or kicks != self._latest_kicks:
            self.latest, self._latest_kicks = snapshot, kicks
            self._wake()

    def _wake(self) -> None:
        self.changed.set()
        self.changed = asyncio.Event()
