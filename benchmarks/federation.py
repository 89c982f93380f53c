"""A coordinator as a process of its own, and clients that sign, for the benchmarks of it."""

import hashlib
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from protocol.signatures import Signer, content_digest

ROOT = Path(__file__).parents[1]
OPERATOR, INVITATION = "operators-token-of-benchmarks", "invitation-token-of-benchmarks"
START_SECONDS = 60


class Coordinator:
    """The process, and calls to it."""

    def __init__(self, process: subprocess.Popen[bytes], url: str, data_dir: Path) -> None:
        self.process, self.data_dir = psutil.Process(process.pid), data_dir
        self.url = url
        self.http = httpx.Client(base_url=url, timeout=600, trust_env=False)

    def operator(self, method: str, path: str, body: object = None) -> Any:
        """A call with the operators' token; returns the reply's JSON."""
        reply = self.http.request(method, path, json=body, headers={"Authorization": f"Bearer {OPERATOR}"})
        reply.raise_for_status()
        return reply.json()

    def signed(self, signer: Signer, method: str, path: str, body: bytes = b"", **headers: str) -> httpx.Response:
        """A call that a client signs."""
        headers |= signer.headers(method, self.url + path, content_digest(body))
        reply = self.http.request(method, path, content=body or None, headers=headers)
        reply.raise_for_status()
        return reply

    def join(self, signer: Signer, name: str, entities: list[str]) -> None:
        """Make the key's holder a member with these entity keys."""
        body = httpx.Request(
            "POST",
            self.url,
            json={
                "name": name,
                "public_key": signer.public_key,
                "entities": entities,
                "triples": {"train": 100, "valid": 0, "test": 0},
            },
        ).content
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {INVITATION}"}
        self.signed(signer, "POST", "/clients", body, **headers)

    def until(self, **wanted: object) -> None:
        """Wait for a round and phase that come by themselves."""
        after = -1
        while True:
            view = self.operator("GET", f"/round?wait=20&after={after}")
            if all(view[name] == value for name, value in wanted.items()):
                return
            after = view["event"]

    @property
    def cpu_seconds(self) -> float:
        """Processor time that the process has used."""
        times = self.process.cpu_times()
        return float(times.user + times.system)


def signer_of(name: str) -> Signer:
    """The key of a name."""
    return Signer(Ed25519PrivateKey.from_private_bytes(hashlib.sha256(name.encode()).digest()))


def entity_keys(count: int) -> list[str]:
    """Opaque keys, hex."""
    return [hashlib.sha256(f"entity {i}".encode()).hexdigest() for i in range(count)]


@contextmanager
def coordinator(module: str = "") -> Iterator[Coordinator]:
    """A coordinator on an empty folder, ready; it ends with the block. `module` is the source of one that makes it."""
    with tempfile.TemporaryDirectory(prefix="tripleherd-") as folder, socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        probe.close()
        target = "services.coordinator.app:create_app"
        if module:
            (Path(folder) / "changed.py").write_text(module)
            target = "changed:create_app"
        command = [sys.executable, "-m", "uvicorn", target, "--factory", "--app-dir", folder]
        environment = {k: v for k, v in os.environ.items() if not k.startswith("COORDINATOR_")} | {
            "PYTHONPATH": str(ROOT),
            "COORDINATOR_DATA_DIR": folder,
            "COORDINATOR_OPERATOR_TOKEN": OPERATOR,
            "COORDINATOR_INVITATION_TOKEN": INVITATION,
        }
        command += ["--port", str(port), "--no-access-log", "--log-level", "warning", "--backlog", "4096"]
        process = subprocess.Popen(command, cwd=ROOT, env=environment)
        try:
            running = Coordinator(process, f"http://127.0.0.1:{port}", Path(folder))
            _wait(running)
            yield running
            running.http.close()
        finally:
            process.terminate()
            process.wait(30)


def _wait(running: Coordinator) -> None:
    until = time.monotonic() + START_SECONDS
    while time.monotonic() < until:
        try:
            if running.http.get("/ready").is_success:
                return
        except httpx.TransportError:
            time.sleep(0.05)
    raise TimeoutError("the coordinator did not become ready")
