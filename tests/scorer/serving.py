"""Real servers for the tests: the scorer as a subprocess on a free port of the loopback."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

ROOT = Path(__file__).parents[2]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def start(log: Path, port: int, **environment: str) -> subprocess.Popen[bytes]:
    """The scorer's process; its output goes to `log`."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("SCORER_", "HF_", "TRANSFORMERS_"))}
    command = [sys.executable, "-m", "uvicorn", "services.scorer.app:create_app", "--factory", "--port", str(port)]
    with log.open("wb") as output:
        return subprocess.Popen(
            command,
            cwd=ROOT,
            env={**inherited, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **environment},
            stdout=output,
            stderr=subprocess.STDOUT,
        )


@contextmanager
def scorer(folder: Path, **environment: str) -> Iterator[httpx.Client]:
    """A client of a scorer that is ready; the scorer ends with the block."""
    port, log = free_port(), folder / "scorer.log"
    process = start(log, port, **environment)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
            wait_until_ready(client, process, log)
            yield client
    finally:
        process.terminate()
        process.wait(20)


def wait_until_ready(client: httpx.Client, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 60
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
        return process.wait(60), log.read_text()
    finally:
        process.kill()
        process.wait()
