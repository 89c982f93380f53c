"""Claim: a coordinator's CPU time for two rounds is at most 3 x that of reading the same files and averaging them.

100 clients, each with 14,541 rows of 128 float32 numbers (7.4 MB), real HTTP on loopback: every client fetches its
share and sends its update. Then the same with 20 clients, for the memory. Run: `python -m benchmarks.rounds`
"""

import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file

from benchmarks.federation import Coordinator, coordinator, entity_keys, signer_of
from benchmarks.measure import show
from protocol import tensors
from protocol.trainings import TrainingSettings, model_tensors

ENTITIES, DIM, ROUNDS = 14_541, 128, 2
MEDIA = {"Content-Type": tensors.MEDIA_TYPE}


class Peak:
    """The highest resident memory of a process, looked at every few milliseconds."""

    def __init__(self, running: Coordinator) -> None:
        self.bytes = 0
        self._running, self._stop = running, threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def _look(self) -> None:
        while not self._stop.wait(0.005):
            self.bytes = max(self.bytes, self._running.process.memory_info().rss)

    def end(self) -> float:
        """Stop looking; MiB."""
        self._stop.set()
        self._thread.join()
        return self.bytes / 2**20


def averaged(files: list[Path]) -> float:
    """CPU seconds of reading files that are in the page cache, and averaging them in float64."""
    start = time.process_time()
    total = np.zeros((ENTITIES, DIM))
    for file in files:
        total += load_file(file)["entities"]
    (total / len(files)).astype(np.float32)
    return time.process_time() - start


def run(clients: int) -> dict[str, Any]:
    """Two rounds of so many clients."""
    keys = entity_keys(ENTITIES)
    settings = TrainingSettings(
        interaction="transe", dim=DIM, clients=clients, quorum=clients, rounds=ROUNDS, evaluate_every=ROUNDS
    )
    specs = model_tensors(settings, ENTITIES)
    signers = [signer_of(f"client {i}") for i in range(clients)]
    generator = np.random.default_rng(0)
    plain, receive_seconds = 0.0, 0.0
    with coordinator() as running:
        for i, signer in enumerate(signers):
            running.join(signer, f"client {i}", keys)
        start, cpu = time.perf_counter(), running.cpu_seconds
        peak = Peak(running)
        running.operator("POST", "/round", settings.model_dump(mode="json"))
        for number in range(1, ROUNDS + 1):
            running.until(round=number, phase="training")
            for signer in signers:
                share, _ = tensors.decode(running.signed(signer, "GET", f"/round/{number}/embeddings").content, specs)
                rows = share["entities"] + generator.normal(0, 0.01, share["entities"].shape).astype(np.float32)
                body = tensors.encode({"entities": rows}, {"triples": 100, "loss": 1.0})
                if signer is signers[-1]:
                    files = sorted((running.data_dir / "updates").glob("*.safetensors"))
                    averaged(files)
                    plain += averaged(files) * clients / len(files)
                before = time.perf_counter()
                running.signed(signer, "PUT", f"/round/{number}/update", body, **MEDIA)
                receive_seconds += time.perf_counter() - before
        running.until(round=ROUNDS + 1, phase="finished")
        wall, cpu = time.perf_counter() - start, running.cpu_seconds - cpu
        return {
            "clients": clients,
            "cpu": cpu,
            "plain_cpu": plain,
            "wall": wall,
            "update_ms": 1000 * receive_seconds / clients / ROUNDS,
            "peak_mib": peak.end(),
        }


def main() -> None:
    """Measure and print."""
    results = [run(20), run(100)]
    rows = [
        (
            str(r["clients"]),
            f"{r['cpu']:.2f} s",
            f"{r['plain_cpu']:.2f} s",
            f"{r['cpu'] / r['plain_cpu']:.2f} x",
            f"{r['wall']:.1f} s",
            f"{r['update_ms']:.0f} ms",
            f"{r['peak_mib']:.0f} MiB",
        )
        for r in results
    ]
    few, many = results
    figures = {
        "cpu_ratio": many["cpu"] / many["plain_cpu"],
        "wall_seconds": many["wall"],
        "peak_mib": many["peak_mib"],
        "peak_ratio": many["peak_mib"] / few["peak_mib"],
    }
    columns = (
        "clients",
        "coordinator's CPU",
        "numpy's",
        "ratio",
        "wall, clients' work too",
        "an update",
        "peak memory",
    )
    show(f"{ROUNDS} rounds, {ENTITIES:,} x {DIM} float32 a client, both ways", rows, columns, figures)


if __name__ == "__main__":
    main()
