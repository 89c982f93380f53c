"""The header of a safetensors body: where its tensors stand. Bounded before it is parsed, checked before it is used.

A body is eight bytes of length, a JSON header and raw numbers. `tensors` works on bodies, `tensor_files` on files.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeGuard

import numpy as np

from protocol.problems import InvalidRequest

MAX_HEADER_BYTES = 16 << 20  # names and texts of a large batch; the numbers are not in the header
MAX_TENSORS = 64
MAX_ROW = 1 << 31  # numbers of one row of a tensor that has none
LENGTH_BYTES = 8
ALIGNMENT = 8  # of the first number in a body

DTYPES: dict[str, np.dtype[Any]] = {
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype("<u2"),  # numpy has no bfloat16: the upper half of a float32
    "I32": np.dtype("<i4"),
    "U8": np.dtype("u1"),
}
"""What a tensor is on the wire. In memory, F16 and BF16 are float32."""


@dataclass(frozen=True)
class TensorSpec:
    """What a tensor must look like.

    Attributes:
        dtype: A key of `DTYPES`.
        shape: One entry a dimension: a size, or a name. The same name means the same size in all tensors of a body.
        optional: Whether the tensor may be absent.
        nan: Whether NaN may stand in it, for a number that there is not.
    """

    dtype: str
    shape: tuple[int | str, ...]
    optional: bool = False
    nan: bool = False

    @property
    def sizes(self) -> tuple[int, ...]:
        """Its shape, for one without names."""
        return tuple(size for size in self.shape if isinstance(size, int))

    @property
    def nbytes(self) -> int:
        """Bytes of its numbers, for a shape without names."""
        return DTYPES[self.dtype].itemsize * math.prod(self.sizes)


@dataclass(frozen=True)
class Place:
    """Where a tensor stands: its shape, dtype and first byte, counted from the end of the header."""

    dtype: str
    shape: tuple[int, ...]
    start: int

    @property
    def count(self) -> int:
        """How many numbers it holds."""
        return math.prod(self.shape)

    @property
    def stop(self) -> int:
        """The byte after its last."""
        return self.start + self.count * DTYPES[self.dtype].itemsize


def layout(tensors: Mapping[str, tuple[str, tuple[int, ...]]]) -> dict[str, Place]:
    """Where tensors of these dtypes and shapes stand: wide numbers first, so that all are aligned."""
    places, start = {}, 0
    for name in sorted(tensors, key=lambda name: (-DTYPES[tensors[name][0]].itemsize, name)):
        places[name] = Place(*tensors[name], start)
        start = places[name].stop
    return places


def pack_header(places: Mapping[str, Place], message: Mapping[str, Any] | None = None) -> bytes:
    """Everything of a body that comes before its numbers."""
    metadata = {} if message is None else {"__metadata__": {"message": json.dumps(message, separators=(",", ":"))}}
    entries = {
        name: {"dtype": place.dtype, "shape": place.shape, "data_offsets": (place.start, place.stop)}
        for name, place in places.items()
    }
    header = json.dumps(metadata | entries, separators=(",", ":")).encode()
    header += b" " * (-len(header) % ALIGNMENT)
    return len(header).to_bytes(LENGTH_BYTES, "little") + header


def header_size(start: bytes, total: int, limit: int = MAX_HEADER_BYTES) -> int:
    """The header's size, from a body's first eight bytes, checked against the body's length and a fixed bound.

    Raises:
        InvalidRequest: It is over one of them.
    """
    size = int.from_bytes(start, "little")
    if len(start) < LENGTH_BYTES or size > total - LENGTH_BYTES:
        raise InvalidRequest.of("body", "not a safetensors body: it ends before its header does")
    if size > limit:
        raise InvalidRequest.of("body", f"the safetensors header is over {limit} bytes")
    return size


def parse_header(
    text: bytes, numbers: int, specs: Mapping[str, TensorSpec], sizes: Mapping[str, int] | None = None
) -> tuple[dict[str, Place], dict[str, Any]]:
    """Where the tensors stand, and the message.

    Args:
        text: The header.
        numbers: Bytes that follow it.
        specs: Every tensor that may occur.
        sizes: Sizes of named dimensions that are known beforehand.

    Raises:
        InvalidRequest: As `decode` says, but for the values.
    """
    try:
        header = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidRequest.of("body", "not a safetensors body: its header is not JSON") from error
    if not isinstance(header, dict):
        raise InvalidRequest.of("body", "not a safetensors body: its header is not a JSON object")
    message = _message(header.pop("__metadata__", None))
    _check_names(header, specs)
    known, places = dict(sizes or {}), {}
    for name, spec in specs.items():
        if name in header:
            places[name] = _place(name, header[name], spec, known)
        elif not spec.optional:
            raise InvalidRequest.of(name, "this tensor is missing")
    _check_cover(places, numbers)
    return places, message


def _message(metadata: Any) -> dict[str, Any]:
    """The message in the header's metadata; an absent one is empty."""
    text = metadata.get("message", "{}") if isinstance(metadata, dict) else "{}"
    try:
        message = json.loads(text)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidRequest.of("message", "the header's metadata entry `message` is not JSON") from error
    if not isinstance(message, dict):
        raise InvalidRequest.of("message", "the header's metadata entry `message` is not a JSON object")
    return message


def _check_names(header: Mapping[str, Any], specs: Mapping[str, TensorSpec]) -> None:
    if len(header) > MAX_TENSORS:
        raise InvalidRequest.of("body", f"holds {len(header)} tensors; at most {MAX_TENSORS} are read")
    for name in header:
        if name not in specs:
            raise InvalidRequest.of(name, f"unknown tensor; expected {', '.join(specs)}")


def _place(name: str, entry: Any, spec: TensorSpec, sizes: dict[str, int]) -> Place:
    """A tensor's place as its entry states it, its dtype and shape as they should be."""
    found = entry if isinstance(entry, dict) else {}
    dtype, shape, offsets = found.get("dtype"), found.get("shape"), found.get("data_offsets")
    if dtype != spec.dtype:
        raise InvalidRequest.of(name, f"dtype {dtype!r}; expected {spec.dtype}")
    if not _are_sizes(shape):
        raise InvalidRequest.of(name, "its shape is not a list of sizes")
    _check_shape(name, shape, spec, sizes)
    place = Place(spec.dtype, tuple(shape), offsets[0] if _are_sizes(offsets) and offsets else 0)
    if not _are_sizes(offsets) or list(offsets) != [place.start, place.stop]:
        raise InvalidRequest.of(name, "its data_offsets are not those of its shape and dtype")
    return place


def _are_sizes(found: Any) -> TypeGuard[list[int]]:
    return isinstance(found, list) and all(type(size) is int and size >= 0 for size in found)


def _check_shape(name: str, shape: list[int], spec: TensorSpec, sizes: dict[str, int]) -> None:
    expected = [sizes.get(d, d) if isinstance(d, str) else d for d in spec.shape]
    fits = len(shape) == len(expected) and all(
        isinstance(e, str) or s == e for s, e in zip(shape, expected, strict=True)
    )
    if not fits:
        wanted = ", ".join(f"{d}={sizes[d]}" if d in sizes else str(d) for d in map(str, spec.shape))
        raise InvalidRequest.of(name, f"shape {shape}; expected [{wanted}]")
    for dimension, size in zip(spec.shape, shape, strict=True):
        if isinstance(dimension, str):
            sizes[dimension] = size
    # A batch may hold no row; its rows must still be of a size that there could be.
    if 0 in shape and (shape[0] != 0 or math.prod(size or 1 for size in shape[1:]) > MAX_ROW):
        raise InvalidRequest.of(name, f"shape {shape} holds no number")


def _check_cover(places: Mapping[str, Place], numbers: int) -> None:
    """The tensors stand one behind the other, and nothing else does."""
    end = 0
    for place in sorted(places.values(), key=lambda place: (place.start, place.stop)):
        if place.start != end:
            raise InvalidRequest.of("body", "not a valid safetensors body: its tensors overlap or leave a hole")
        end = place.stop
    if end != numbers:
        raise InvalidRequest.of("body", f"not a valid safetensors body: {numbers} bytes of numbers, {end} expected")
