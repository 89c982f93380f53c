"""Where calls wait for the model, and which of them run together.

Calls for scores and calls for gradients wait in a lane of their own, and the workers serve the lanes in turn, so that
neither keeps the other waiting. A batch takes the next piece of the call that waited longest, and pieces of those
behind it while they fit. A call of many pieces goes to the back of its lane after each, so that a small one behind it
waits for one piece and not for all.

A call whose caller has gone is dropped before its next piece runs. A batch that fails runs again call by call, so that
only the call at fault has the error.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, InvalidStateError
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

import torch

from protocol.problems import Busy, NotReady, ProblemError
from services.scorer.engine.engine import Engine
from services.scorer.engine.tasks import Result, Task, Work
from services.scorer.metrics import KINDS_OF_WORK, Kind, Metrics

log = logging.getLogger(__name__)

ENDED = "a worker thread has ended; restart the scorer"
SWEEP_SECONDS = 1.0
"""Between looks at what is kept, while nothing runs."""


@dataclass(eq=False)
class _Call:
    """A task that waits or runs; its future is cancelled once its caller has gone."""

    task: Task
    future: Future[Result] = field(default_factory=Future)
    since: float = field(default_factory=time.monotonic)
    started: bool = False

    @property
    def kind(self) -> Kind:
        return "gradient" if self.task.gradient else "forward"


class Places:
    """How many calls of each kind the scorer has taken in: those that run, those that wait, and those still read."""

    def __init__(self, each: int) -> None:
        self._each = each
        self._taken = dict.fromkeys(KINDS_OF_WORK, 0)
        self._lock = threading.Lock()

    @contextmanager
    def take(self, kind: Kind) -> Iterator[None]:
        """Hold a place.

        Raises:
            Busy: All are taken.
        """
        with self._lock:
            if self._taken[kind] >= self._each:
                raise Busy(f"{self._taken[kind]} calls of this kind are running or waiting; try again in a second")
            self._taken[kind] += 1
        try:
            yield
        finally:
            with self._lock:
                self._taken[kind] -= 1


class Worker:
    """Threads that run tasks on an engine."""

    def __init__(self, engine: Engine, metrics: Metrics, *, workers: int, threads: int, merge: bool) -> None:
        """Start so many workers, each of which may use so many CPU threads inside torch."""
        self._engine, self._metrics, self._merge = engine, metrics, merge
        self._lanes: dict[Kind, deque[_Call]] = {kind: deque() for kind in KINDS_OF_WORK}
        self._served: Kind = "gradient"
        self._closing = self._ended = False
        self._wake = threading.Condition()
        self._threads = [
            threading.Thread(target=self._run, args=(threads,), name=f"scorer-{number}", daemon=True)
            for number in range(workers)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def alive(self) -> bool:
        """Whether every worker still takes calls."""
        return not self._ended and all(thread.is_alive() for thread in self._threads)

    def waiting(self, kind: Kind) -> int:
        """Calls of a kind that wait."""
        return len(self._lanes[kind])

    def submit(self, task: Task) -> Future[Result]:
        """Have a task run; cancelling the future drops what has not run of it.

        Raises:
            NotReady: A worker has died.
        """
        call = _Call(task)
        with self._wake:
            if not self.alive:
                raise NotReady(ENDED)
            self._lanes[call.kind].append(call)
            self._wake.notify()
        call.future.add_done_callback(self._leave)
        return call.future

    def close(self) -> None:
        """Let the calls that wait finish, then end the threads."""
        with self._wake:
            self._closing = True
            self._wake.notify_all()
        for thread in self._threads:
            thread.join()

    def _run(self, threads: int) -> None:
        torch.set_num_threads(threads)  # holds for the thread that sets it
        batch: list[tuple[_Call, Work | None]] | None = None
        try:
            while (batch := self._next()) is not None:
                self._execute(batch)
                batch = None  # or the last call's tensors would live until the next one
        except BaseException:  # ends the thread, but nobody may wait for it in vain
            self._abandon([call for call, _ in batch or []])
            raise

    def _leave(self, future: Future[Result]) -> None:
        """Drop a call that waits, and all that it holds, as soon as its caller has gone."""
        if future.cancelled():
            with self._wake:
                for lane in self._lanes.values():
                    for call in [call for call in lane if call.future is future]:
                        lane.remove(call)
                        self._drop(call)

    def _drop(self, call: _Call) -> None:
        if not call.started:
            self._metrics.dropped()

    def _abandon(self, running: list[_Call]) -> None:
        with self._wake:
            self._ended = True
            waiting = [call for lane in self._lanes.values() for call in lane]
            for lane in self._lanes.values():
                lane.clear()
        for call in [*running, *waiting]:
            _fail(call, NotReady(ENDED))

    def _next(self) -> list[tuple[_Call, Work | None]] | None:
        """Wait for calls, and take those that run together; None once there is nothing left to come."""
        while True:
            self._engine.kept.sweep()
            with self._wake:
                for kind in sorted(KINDS_OF_WORK, key=lambda kind: kind == self._served):
                    if batch := self._take(self._lanes[kind]):
                        self._served = kind
                        return batch
                if self._closing:
                    return None
                self._wake.wait(SWEEP_SECONDS)

    def _take(self, lane: deque[_Call]) -> list[tuple[_Call, Work | None]]:
        """The first call's next piece, and those of later calls that can run with it."""
        batch: list[tuple[_Call, Work | None]] = []
        left: list[_Call] = []
        room = 0
        while lane:
            call = lane.popleft()
            if call.future.cancelled():
                self._drop(call)
                continue
            if not batch:
                room = call.task.plan.at_once
                batch.append(self._begin(call))
                room -= batch[0][1].piece.tokens if batch[0][1] else room
            while batch[0][1] and (work := call.task.next) and _joins(batch[0], call, work, room):
                room -= work.piece.tokens
                batch.append(self._begin(call))
            if call is not batch[-1][0]:
                left.append(call)
            if not self._merge or call.task.keep is not None or room <= 0:
                break
        lane.extendleft(reversed(left))
        return batch

    def _begin(self, call: _Call) -> tuple[_Call, Work | None]:
        """The call and its next piece; None where its backward pass alone is left."""
        if not call.started:
            call.started = True
            self._metrics.waited(call.kind, time.monotonic() - call.since)
        return call, call.task.take() if call.task.next else None

    def _execute(self, batch: list[tuple[_Call, Work | None]]) -> None:
        started = time.perf_counter()
        works = [work for _, work in batch if work]
        try:
            if works:
                self._engine.run(works)
            else:
                self._engine.backward(batch[0][0].task)
        except ProblemError as problem:
            calls = list(dict.fromkeys(call for call, _ in batch))
            if len(calls) > 1:
                log.warning("a batch of %d calls failed; each runs again by itself", len(calls))
                for call in calls:
                    self._execute([item for item in batch if item[0] is call])
            else:
                _fail(calls[0], problem)
            return
        self._measure(batch[0][0].task, works, time.perf_counter() - started)
        for call in dict.fromkeys(call for call, _ in batch):
            self._go_on(call)

    def _go_on(self, call: _Call) -> None:
        """Queue the call's next piece, or give its result; drop it where its caller has gone."""
        if call.future.cancelled():
            return
        if call.task.next:
            with self._wake:
                self._lanes[call.kind].append(call)
                self._wake.notify()
            return
        try:
            self._engine.finish(call.task)
            result = call.task.result()
        except Exception as error:
            _fail(call, error)
        else:
            _settle(call, result)

    def _measure(self, first: Task, works: list[Work], seconds: float) -> None:
        pieces = works or [Work(first, group, piece, True) for group, piece in first.plan.pieces]
        ran = sum(work.piece.tokens for work in pieces)
        whole = sum(work.group.prompts.tokens_of(work.piece) for work in pieces)
        self._metrics.ran(
            "gradient" if first.gradient else "forward",
            prompts=sum(len(work.piece.numbers) for work in pieces),
            tokens=ran,
            shared=max(0, whole - ran),
            calls=len({id(work.task) for work in pieces}),
            fill=min(1.0, ran / first.plan.at_once),
            seconds=seconds,
        )


def _joins(first: tuple[_Call, Work | None], call: _Call, work: Work, room: int) -> bool:
    """Whether a call's next piece can run with a batch that has so much room left."""
    leader, led = first
    if led is None or (call is not leader and call.task.keep is not None):
        return False
    same = (led.backward, led.task.plan.depth) == (work.backward, work.task.plan.depth)
    return same and work.piece.tokens <= min(room, call.task.plan.at_once)


def _fail(call: _Call, error: BaseException) -> None:
    with suppress(InvalidStateError):  # its caller has gone
        call.future.set_exception(error)


def _settle(call: _Call, result: Result) -> None:
    with suppress(InvalidStateError):  # its caller has gone
        call.future.set_result(result)
