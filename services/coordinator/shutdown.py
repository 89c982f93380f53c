"""Ends long polls when the process is told to end, so that a restart takes no longer than the requests that do work."""

import asyncio
import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType


@contextlib.contextmanager
def release_on_signal(release: Callable[[], None]) -> Iterator[None]:
    """Call `release` on the event loop when SIGTERM or SIGINT comes, and then whoever handled it before.

    Only the main thread may handle signals; elsewhere, as under a test client, this does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

    def handle(number: int, frame: FrameType | None) -> None:
        loop.call_soon_threadsafe(release)
        handler = before[signal.Signals(number)]
        if callable(handler):
            handler(number, frame)

    for number in before:
        signal.signal(number, handle)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
