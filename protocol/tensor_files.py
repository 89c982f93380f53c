"""Safetensors files that are read and written piece by piece, so that memory never holds one of them."""

import math
import mmap
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from protocol.problems import InvalidRequest
from protocol.tensor_headers import (
    DTYPES,
    LENGTH_BYTES,
    TensorSpec,
    header_size,
    layout,
    pack_header,
    parse_header,
)
from protocol.tensors import Array, from_wire

PIECE = 1 << 18
"""Numbers that are read at once: a MiB of float32, which stays in a core's cache."""


class TensorFile:
    """An open safetensors file. A context manager, which closes it.

    Attributes:
        message: The JSON object in its header.
        places: Where its tensors stand.
    """

    def __init__(self, path: Path, specs: Mapping[str, TensorSpec], header_bytes: int) -> None:
        self._fd = os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
        self._map: mmap.mmap | None = None
        try:
            total = os.fstat(self._fd).st_size
            size = header_size(os.pread(self._fd, LENGTH_BYTES, 0), total, header_bytes)
            self._first = LENGTH_BYTES + size
            text = os.pread(self._fd, size, LENGTH_BYTES)
            self.places, self.message = parse_header(text, total - self._first, specs)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; once more does nothing."""
        self._map = None  # unmapped once no array looks at it
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def read(self, name: str, start: int, stop: int) -> Array:
        """Numbers from `start` to before `stop` of a tensor taken as one row; float32, int32 or uint8."""
        place = self.places[name]
        raw = np.empty(stop - start, DTYPES[place.dtype])
        self._fill(raw, self._first + place.start + start * raw.itemsize)
        return from_wire(raw, place.dtype)

    def rows(self, name: str, start: int, stop: int) -> Array:
        """Rows from `start` to before `stop` of a tensor [n, columns]."""
        columns = self.places[name].shape[1]
        return self.read(name, start * columns, stop * columns).reshape(stop - start, columns)

    def take(self, name: str, rows: Array) -> Array:
        """Rows of a tensor [n, columns] or [n], in any order; int64 [k] gives [k, columns] or [k]."""
        place = self.places[name]
        if self._map is None:
            self._map = mmap.mmap(self._fd, 0, access=mmap.ACCESS_READ)
        whole = np.frombuffer(self._map, DTYPES[place.dtype], place.count, self._first + place.start)
        return from_wire(whole.reshape(place.shape)[rows], place.dtype)

    def pieces(self, name: str) -> Iterator[Array]:
        """All of a tensor's numbers, as one row in pieces."""
        count = self.places[name].count
        for start in range(0, count, PIECE):
            yield self.read(name, start, min(start + PIECE, count))

    def check(self, limit: float, largest: float = math.inf) -> None:
        """Look at every number.

        Raises:
            InvalidRequest: A float is not finite or is beyond ±`limit`, an integer is negative or beyond `largest`. The
                tensor is named.
        """
        for name, place in self.places.items():
            floats = place.dtype in ("F32", "F16", "BF16")
            for piece in self.pieces(name):
                low, high = piece.min(), piece.max()  # both are NaN where one number is
                if not (np.isfinite(low) and np.isfinite(high)):
                    raise InvalidRequest.of(name, "holds NaN or infinity; every value must be finite")
                if floats and not -limit <= low <= high <= limit:
                    raise InvalidRequest.of(name, f"holds a value beyond ±{limit:g}; the training has diverged")
                if not floats and not 0 <= low <= high <= largest:
                    raise InvalidRequest.of(name, f"holds a value that is negative or beyond {largest:g}")

    def _fill(self, raw: Array, offset: int) -> None:
        view = as_bytes(raw)
        while view:
            done = os.preadv(self._fd, [view], offset)
            if not done:
                raise OSError(f"a tensor file ends early, at byte {offset}")
            view, offset = view[done:], offset + done


class TensorWriter:
    """Writes a safetensors file whose tensors' dtypes and shapes are known, in any order. A context manager."""

    def __init__(
        self,
        path: Path,
        tensors: Mapping[str, tuple[str, tuple[int, ...]]],
        message: Mapping[str, Any] | None = None,
    ) -> None:
        """`tensors` gives each one's key of `DTYPES`, one that needs no conversion, and its shape."""
        self._places = layout(tensors)
        header = pack_header(self._places, message)
        self._first = len(header)
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0), 0o644)
        try:
            self._write(memoryview(header), 0)
        except OSError:
            os.close(self._fd)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        os.close(self._fd)

    def write(self, name: str, start: int, array: Array) -> None:
        """Put numbers into a tensor taken as one row, from `start` on."""
        place = self._places[name]
        plain = np.ascontiguousarray(array, DTYPES[place.dtype])
        offset = self._first + place.start + start * plain.itemsize
        self._write(as_bytes(plain), offset)

    def _write(self, data: memoryview, offset: int) -> None:
        while data:
            done = os.pwrite(self._fd, data, offset)
            data, offset = data[done:], offset + done


def as_bytes(array: Array) -> memoryview:
    """The bytes of a contiguous array, not copied."""
    return memoryview(array.data).cast("B") if array.size else memoryview(b"")


def open_tensors(path: Path, specs: Mapping[str, TensorSpec], header_bytes: int = 1 << 20) -> TensorFile:
    """Open a file whose tensors are as the specs say; their numbers are not looked at yet.

    Raises:
        InvalidRequest: It is no safetensors file, or its tensors are others. The tensor at fault is named.
        FileNotFoundError: There is none.
    """
    return TensorFile(path, specs, header_bytes)
