"""Where calls wait for the model: a bounded queue in front of a fixed number of threads.

A call whose client has gone is dropped unless it has started; a full queue refuses at once.
"""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any, TypeVar

import torch

from protocol.problems import Busy, NotReady

T = TypeVar("T")

ENDED = "a worker thread has ended; restart the scorer"


class Worker:
    """Threads that run calls, in the order of their arrival."""

    def __init__(self, workers: int, queue: int, threads: int) -> None:
        """Start so many workers, each of which may use so many CPU threads inside torch."""
        self._places = workers + queue
        self._taken = 0
        self._lock = threading.Lock()
        self._calls: SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = SimpleQueue()
        self._threads = [
            threading.Thread(target=self._run, args=(threads,), name=f"scorer-{number}", daemon=True)
            for number in range(workers)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def alive(self) -> bool:
        """Whether every worker still takes calls."""
        return all(thread.is_alive() for thread in self._threads)

    def submit(self, call: Callable[[], T]) -> Future[T]:
        """Have the call run; cancelling the future drops it, unless it has started.

        Raises:
            Busy: As many calls as may wait are waiting.
            NotReady: A worker has died.
        """
        if not self.alive:
            raise NotReady(ENDED)
        future: Future[T] = Future()
        with self._lock:
            if self._taken >= self._places:
                raise Busy(f"{self._taken} calls are running or waiting; try again in a second")
            self._taken += 1
        future.add_done_callback(self._free)
        self._calls.put((future, call))
        return future

    def close(self) -> None:
        """Let the calls that wait finish, then end the threads."""
        for _ in self._threads:
            self._calls.put(None)
        for thread in self._threads:
            thread.join()

    def _free(self, future: Future[Any]) -> None:
        with self._lock:
            self._taken -= 1

    def _run(self, threads: int) -> None:
        torch.set_num_threads(threads)  # holds for the thread that sets it
        while (item := self._calls.get()) is not None:
            future, call = item
            if not future.set_running_or_notify_cancel():
                continue
            try:
                future.set_result(call())
            except Exception as error:
                future.set_exception(error)
            except BaseException:  # ends the thread, but nobody may wait for it in vain
                future.set_exception(NotReady(ENDED))
                raise
            del item, future, call  # or the last call's tensors would live until the next one
