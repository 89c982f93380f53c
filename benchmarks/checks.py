"""Claim: signature and digest checks cost at most 10 % of the time of taking a 7.4 MB update.

The same update goes in turn to a coordinator as it is, and to one that checks neither.

Run: `python -m benchmarks.checks`
"""

import statistics
import time

import numpy as np

from benchmarks.federation import Coordinator, coordinator, entity_keys, signer_of
from benchmarks.measure import show
from protocol import tensors
from protocol.signatures import Signer
from protocol.trainings import TrainingSettings

ENTITIES, DIM, CLIENTS = 14_541, 128, 40

UNCHECKED = """
import services.coordinator.identity.gate as gate, services.coordinator.routes.rounds as rounds
from services.coordinator.app import create_app
from services.coordinator.rounds.incoming import Incoming

class Unhashed(Incoming):
    def _write(self, part):
        rest = memoryview(part)
        while rest:
            rest = rest[self._out.write(rest):]
    async def end(self):
        await super().end()
        return bytes(32)

rounds.Incoming, rounds.claimed_digest, gate.verify = Unhashed, lambda request: bytes(32), lambda *arguments: None
"""
"""A coordinator's module that takes every signature and every body for right."""


def opened(running: Coordinator, signers: list[Signer]) -> None:
    """A round in which all of them train, and which their updates do not close."""
    for signer in signers:
        running.join(signer, signer.key_id[:8], entity_keys(ENTITIES))
    settings = TrainingSettings(interaction="transe", dim=DIM, clients=CLIENTS + 1, quorum=CLIENTS + 1)
    last = signer_of("absent")
    running.join(last, "absent", entity_keys(1))
    running.operator("POST", "/round", settings.model_dump(mode="json"))
    running.until(round=1, phase="training")


def main() -> None:
    """Measure and print."""
    signers = [signer_of(f"client {i}") for i in range(CLIENTS)]
    rows = np.random.default_rng(0).normal(size=(ENTITIES, DIM)).astype(np.float32)
    body = tensors.encode({"entities": rows}, {"triples": 100, "loss": 1.0})
    taken: dict[str, list[float]] = {"with": [], "without": []}
    with coordinator() as checked, coordinator(UNCHECKED) as unchecked:
        for running in (checked, unchecked):
            opened(running, signers)
        for signer in signers:
            for name, running in (("with", checked), ("without", unchecked)):
                start = time.perf_counter()
                running.signed(signer, "PUT", "/round/1/update", body, **{"Content-Type": tensors.MEDIA_TYPE})
                taken[name].append(time.perf_counter() - start)
    median = {name: statistics.median(seconds) for name, seconds in taken.items()}
    lines = [(f"{name} checks", f"{seconds * 1000:.1f} ms") for name, seconds in median.items()]
    share = 1 - median["without"] / median["with"]
    show(f"an update of {len(body) / 1e6:.1f} MB", lines, ("coordinator", "an update"), {"share_of_checks": share})


if __name__ == "__main__":
    main()
