"""Real servers for the tests: the scorer as a subprocess, or in a thread of this process, on a free loopback port."""

import http.client
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil
import uvicorn
from prometheus_client.parser import text_string_to_metric_families

from protocol.problems import MEDIA_TYPE as PROBLEM
from protocol.problems import Problem
from services.scorer.app import create_app
from services.scorer.engine.engine import Engine
from services.scorer.engine.tasks import Task, Work
from services.scorer.settings import Settings
from tests.declared import declared

ROOT = Path(__file__).parents[2]
PATIENCE = 60
"""Seconds after which a test gives up; nothing that works takes so long."""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def start(log: Path, port: int, **environment: str) -> subprocess.Popen[bytes]:
    """The scorer's process; its output goes to `log`."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("SCORER_", "HF_", "TRANSFORMERS_"))}
    settings = {"SCORER_MODEL": "random", "SCORER_THREADS": "1"} | environment
    command = [sys.executable, "-m", "uvicorn", "services.scorer.app:create_app", "--factory", "--port", str(port)]
    with log.open("wb") as output:
        return subprocess.Popen(
            command,
            cwd=ROOT,
            env={**inherited, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **settings},
            stdout=output,
            stderr=subprocess.STDOUT,
        )


class Process(httpx.Client):
    """A client of a scorer that is a process of its own."""

    def __init__(self, port: int, process: subprocess.Popen[bytes], log: Path) -> None:
        super().__init__(base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE, event_hooks=declared("scorer"))
        self.port, self.process, self.log = port, process, log

    @property
    def resident(self) -> int:
        """Bytes of memory that the process holds."""
        size: int = psutil.Process(self.process.pid).memory_info().rss
        return size


@contextmanager
def scorer(folder: Path, **environment: str) -> Iterator[Process]:
    """A client of a scorer that is ready; the scorer ends with the block."""
    port, log = free_port(), folder / "scorer.log"
    process = start(log, port, **environment)
    try:
        with Process(port, process, log) as client:
            wait_until_ready(client, process, log)
            yield client
    finally:
        process.terminate()
        process.wait(20)


def wait_until_ready(client: httpx.Client, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        assert process.poll() is None, log.read_text()
        try:
            if client.get("/ready").status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.1)
    raise AssertionError(f"not ready in time: {log.read_text()}")


def fails_to_start(folder: Path, **environment: str) -> tuple[int, str]:
    """The exit status and the log of a scorer that is expected to give up."""
    log = folder / "failed.log"
    process = start(log, free_port(), **environment)
    try:
        return process.wait(PATIENCE), log.read_text()
    finally:
        process.kill()
        process.wait()


def opened(port: int, path: str, *headers: str) -> socket.socket:
    """A connection that has sent the head of a request, written by hand."""
    connection = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
    lines = [f"POST {path} HTTP/1.1", "Host: x", *headers, "", ""]
    connection.sendall("\r\n".join(lines).encode("latin-1"))
    return connection


def response(connection: socket.socket) -> http.client.HTTPResponse:
    """What comes back by such a connection, up to its body."""
    found = http.client.HTTPResponse(connection)
    found.begin()
    return found


def problem(connection: socket.socket) -> Problem:
    """The refusal that comes back."""
    found = response(connection)
    assert found.headers["content-type"] == PROBLEM
    return Problem.model_validate_json(found.read())


class Gate:
    """Stands before an engine: notes what runs, and, while it is shut, lets one batch through at a time.

    Attributes:
        batches: The pieces of each batch that came to the gate; none for a backward pass alone.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine, self._run, self._backward = engine, engine.run, engine.backward
        self._arrived, self._passes = threading.Semaphore(0), threading.Semaphore(0)
        self._shut = False
        self.batches: list[list[Work]] = []
        engine.run, engine.backward = self.run, self.backward  # type: ignore[method-assign]  # until `remove`

    def run(self, works: Sequence[Work]) -> None:
        self._pass(list(works))
        self._run(works)

    def backward(self, task: Task) -> None:
        self._pass([])
        self._backward(task)

    def _pass(self, works: list[Work]) -> None:
        self.batches.append(works)
        self._arrived.release()
        if self._shut:
            assert self._passes.acquire(timeout=PATIENCE)

    def shut(self) -> None:
        self._shut = True

    def open(self) -> None:
        self._shut = False
        self._passes.release(1000)

    def arrive(self) -> None:
        """Wait until a batch that was not waited for before has come to the gate."""
        assert self._arrived.acquire(timeout=PATIENCE)

    def step(self) -> None:
        """Let the batch at the gate run, and wait for the next."""
        self._passes.release()
        self.arrive()

    def remove(self) -> None:
        self.open()
        self._engine.run, self._engine.backward = self._run, self._backward  # type: ignore[method-assign]  # its own


class Served(httpx.Client):
    """A client of a scorer that runs in a thread of this process."""

    def __init__(self, settings: Settings) -> None:
        self.port = free_port()
        super().__init__(base_url=f"http://127.0.0.1:{self.port}", timeout=PATIENCE, event_hooks=declared("scorer"))
        self.app = create_app(settings)
        self._server = uvicorn.Server(uvicorn.Config(self.app, port=self.port, log_level="error"))
        self._thread = threading.Thread(target=self._server.run)
        self._thread.start()
        while not self._server.started:
            assert self._thread.is_alive(), "the scorer did not start; its log says why"
            time.sleep(0.02)

    @property
    def backend(self) -> Any:
        return self.app.state.service._backend

    @property
    def engine(self) -> Engine:
        engine: Engine = self.backend._engine
        return engine

    @contextmanager
    def gate(self) -> Iterator[Gate]:
        gate = Gate(self.engine)
        try:
            yield gate
        finally:
            gate.remove()

    def end(self) -> None:
        self.close()
        self._server.should_exit = True
        self._thread.join()


@contextmanager
def served(**settings: Any) -> Iterator[Served]:
    running = Served(Settings(**({"model": "random", "threads": 1} | settings)))
    try:
        yield running
    finally:
        running.end()


def metric(client: httpx.Client, name: str, **labels: str) -> float:
    """A number of `/metrics`, by its name without prefix; 0 where there is none yet."""
    families = text_string_to_metric_families(client.get("/metrics").text)
    samples = (sample for family in families for sample in family.samples)
    return sum(s.value for s in samples if s.name == f"tripleherd_scorer_{name}" and labels.items() <= s.labels.items())


def eventually(condition: Any, what: str = "") -> None:
    """Wait until something holds that another thread or process brings about."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, what or "it does not come about"
        time.sleep(0.02)


def crowd(client: Served | Process, slow: list[socket.socket], stack: ExitStack) -> None:
    """Have callers that send no body take every place for scores; the stack closes them."""

    def full() -> bool:
        # One at a time: the call that looks takes a place, too, and one that comes meanwhile may be refused.
        slow.append(
            stack.enter_context(opened(client.port, "/score", "Content-Type: application/json", "Content-Length: 9"))
        )
        time.sleep(0.02)
        return client.post("/score", json={}).status_code == 429

    eventually(full)
