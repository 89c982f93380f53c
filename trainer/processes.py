"""Child processes on this machine: started on loopback, watched through their logs, and stopped whatever happens.

`experiments` and `demo` run the whole system with them. A child is on a `leash`: it ends where its parent is killed.
"""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx

START_SECONDS = 1800.0
"""A service may have to download a large model first; one that ends is noticed at once."""
STOP_SECONDS = 10.0
LOOPBACK = "127.0.0.1"
_OURS = ("COORDINATOR_", "SCORER_", "TRAINER_")


class ProcessFailed(Exception):
    """A child ended with an error; the message holds the end of its log."""


_given: set[int] = set()


def free_port() -> int:
    """A loopback port that nobody listens on; no two calls of one process return the same."""
    while True:
        with socket.socket() as probe:
            probe.bind((LOOPBACK, 0))
            port: int = probe.getsockname()[1]
        if port not in _given:
            _given.add(port)
            return port


@dataclass
class Child:
    """One running process and its log."""

    name: str
    log: Path
    process: subprocess.Popen[bytes]

    def last_line(self) -> str:
        """What it said last."""
        with self.log.open("rb") as log:
            log.seek(0, os.SEEK_END)
            log.seek(max(0, log.tell() - 4096))
            lines = log.read().decode(errors="replace").splitlines()
        return lines[-1] if lines else ""

    def failed(self) -> bool:
        """Whether it has ended with an error."""
        return self.process.poll() not in (None, 0)

    def failure(self) -> ProcessFailed:
        """Its failure, with the end of its log."""
        lines = self.log.read_text(errors="replace").splitlines()[-15:]
        return ProcessFailed("\n  ".join([f"{self.name} ended with status {self.process.returncode}:", *lines]))


@dataclass
class Processes:
    """Children that end together. A context manager: leaving it stops every one of them."""

    logs: Path
    children: list[Child] = field(default_factory=list)
    _leash: tuple[int, int] = (-1, -1)

    def __enter__(self) -> Self:
        self.logs.mkdir(parents=True, exist_ok=True)
        self._leash = os.pipe()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for child in self.children:
            if child.process.poll() is None:
                child.process.terminate()
        deadline = time.monotonic() + STOP_SECONDS
        for child in self.children:
            try:
                child.process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                child.process.kill()
                child.process.wait()
        for end in self._leash:
            os.close(end)

    def start(self, name: str, arguments: list[str], environment: Mapping[str, str] | None = None) -> Child:
        """Start `python -m …` with its output in a log of its own; of our settings, it has those given alone."""
        path = self.logs / f"{name}.log"
        # Settings are the parent's to give: what its user has exported would change results unseen.
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(_OURS)}
        # One thread a process: the processes are what runs side by side.
        threads = {"OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
        with path.open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "trainer.leash", *arguments],
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=self._leash[0],
                env=inherited | threads | dict(environment or {}),
                # Ctrl-C reaches the parent alone, which then stops its children in order.
                start_new_session=True,
            )
        child = Child(name, path, process)
        self.children.append(child)
        return child

    def serve(self, name: str, factory: str, environment: Mapping[str, str]) -> str:
        """Start a service under uvicorn on a free port; returns its address."""
        port = free_port()
        arguments = ["uvicorn", factory, "--factory", "--host", LOOPBACK, "--port", str(port), "--no-access-log"]
        self.start(name, arguments, environment)
        return f"http://{LOOPBACK}:{port}"

    def check(self) -> None:
        """Raise the failure of the first child that failed.

        Raises:
            ProcessFailed: One did.
        """
        for child in self.children:
            if child.failed():
                raise child.failure()

    def wait_ready(self, url: str, tick: Callable[[], None]) -> None:
        """Wait until the service there answers `/ready`.

        Raises:
            ProcessFailed: A child failed, or the service was not ready in `START_SECONDS`.
        """
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            self.check()
            tick()
            try:
                if httpx.get(f"{url}/ready", timeout=2.0).is_success:
                    return
            except httpx.TransportError:
                pass
            time.sleep(0.2)
        raise ProcessFailed(f"{url} was not ready after {START_SECONDS:.0f} s")

    def wait_all(self, children: list[Child], tick: Callable[[], None]) -> None:
        """Wait until all these children have ended well, while every other one goes on.

        Raises:
            ProcessFailed: A child failed.
        """
        while any(child.process.poll() is None for child in children):
            self.check()
            tick()
            time.sleep(0.2)
        self.check()


def stop_on_sigterm() -> None:
    """Treat SIGTERM, and a closed terminal, as Ctrl-C, so that context managers run."""

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)
    if hasattr(signal, "SIGHUP"):
        signal.signal(signal.SIGHUP, interrupt)
