"""What a forward pass leaves for the gradient call that follows it: bounded in time and in memory.

It is found by a digest of what was computed, so that a caller needs no handle, no caller meets another's, and any
replica can answer: one that does not hold it runs the forward pass again.
"""

import hashlib
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from services.scorer.requests import EncodeCall, Ints, ScoreCall, Slots


@dataclass(frozen=True)
class Ran:
    """One piece that ran with a gradient.

    Attributes:
        leaf: [r, H], its input vectors.
        rows: int64 [r], their bank rows.
        output: Scores [b] or states [b, H] of its prompts.
        numbers: int64 [b], which of the call's prompts these are.
    """

    leaf: Tensor
    rows: Tensor
    output: Tensor
    numbers: Ints


@dataclass(frozen=True)
class _Entry:
    until: float
    size: int
    ran: list[Ran]


class Kept:
    """Forward passes by the digest of their call. Safe to use from several threads."""

    def __init__(self, seconds: float, capacity: int, clock: Callable[[], float] = time.monotonic) -> None:
        """Keep at most so many bytes, by the caller's estimates, each for so many seconds."""
        self._seconds, self._capacity, self._clock = seconds, capacity, clock
        self._entries: OrderedDict[str, _Entry] = OrderedDict()
        self._lock = threading.Lock()
        self._size = 0

    @property
    def size(self) -> int:
        """Bytes that are held, by estimate."""
        return self._size

    def fits(self, size: int) -> bool:
        """Whether so much may be kept at all."""
        return self._seconds > 0 and size <= self._capacity

    def put(self, digest: str, ran: list[Ran], size: int) -> None:
        """Keep a forward pass; the oldest make room for it."""
        with self._lock:
            self._drop(digest)
            while self._entries and self._size + size > self._capacity:
                self._drop(next(iter(self._entries)))
            self._entries[digest] = _Entry(self._clock() + self._seconds, size, ran)
            self._size += size

    def take(self, digest: str) -> list[Ran] | None:
        """The forward pass of that digest, which is held no longer; None where there is none."""
        self.sweep()
        with self._lock:
            entry = self._drop(digest)
        return entry.ran if entry else None

    def sweep(self) -> None:
        """Drop what has waited for too long."""
        now = self._clock()
        with self._lock:
            while self._entries and next(iter(self._entries.values())).until <= now:
                self._drop(next(iter(self._entries)))

    def _drop(self, digest: str) -> _Entry | None:
        entry = self._entries.pop(digest, None)
        if entry:
            self._size -= entry.size
        return entry


def digest_of(call: ScoreCall | EncodeCall) -> str:
    """SHA-256 of all that the call's outputs depend on, hexadecimal."""
    digest = hashlib.sha256()

    def add(*parts: Any) -> None:
        for part in parts:
            digest.update(repr(part).encode())

    for slots in (call.entities, call.relations):
        _add_slots(digest, slots)
    if isinstance(call, ScoreCall):
        add(call.readout, call.template, call.triples.shape)
        digest.update(call.triples.tobytes())
    else:
        add(call.layer, call.templates, call.queries.shape)
        digest.update(call.queries.tobytes() + call.sides.tobytes())
    return digest.hexdigest()


def _add_slots(digest: Any, slots: Slots) -> None:
    digest.update(repr((slots.vectors.shape, slots.vectors.dtype, sorted(slots.texts.items()))).encode())
    for array in (slots.vectors, slots.starts, slots.counts):
        digest.update(array.tobytes())
