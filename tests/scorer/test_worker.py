import sys
import threading
import time
from collections.abc import Iterator

import pytest

from protocol.problems import Busy, NotReady
from services.scorer.worker import Worker


@pytest.fixture
def worker() -> Iterator[Worker]:
    """One thread, two places to wait."""
    running = Worker(workers=1, queue=2, threads=1)
    yield running
    running.close()


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    event = threading.Event()
    yield event
    event.set()


def test_calls_run_in_their_order(worker: Worker) -> None:
    done: list[int] = []
    for future in [worker.submit(lambda n=n: done.append(n)) for n in range(3)]:
        future.result(5)
    assert done == [0, 1, 2]


def test_an_exception_is_the_callers(worker: Worker) -> None:
    with pytest.raises(ZeroDivisionError):
        worker.submit(lambda: 1 // 0).result(5)
    assert worker.alive
    assert worker.submit(lambda: 1).result(5) == 1


def test_a_full_queue_refuses(worker: Worker, gate: threading.Event) -> None:
    waiting = [worker.submit(gate.wait) for _ in range(3)]
    with pytest.raises(Busy, match="3 calls"):
        worker.submit(gate.wait)
    gate.set()
    for future in waiting:
        future.result(5)
    assert worker.submit(lambda: 1).result(5) == 1


def test_a_cancelled_call_never_runs_and_frees_its_place(worker: Worker, gate: threading.Event) -> None:
    ran: list[str] = []
    running = worker.submit(gate.wait)
    dropped = [worker.submit(lambda: ran.append("dropped")) for _ in range(2)]
    assert all(future.cancel() for future in dropped)
    kept = worker.submit(lambda: ran.append("kept"))
    gate.set()
    kept.result(5)
    assert running.result(5)
    assert ran == ["kept"]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_dead_worker_is_told(worker: Worker) -> None:
    ended = worker.submit(lambda: sys.exit())  # ends the thread, as nothing but a fault does
    with pytest.raises(NotReady):
        ended.result(5)
    deadline = time.monotonic() + 5
    while worker.alive and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not worker.alive
    with pytest.raises(NotReady):
        worker.submit(lambda: 1)
