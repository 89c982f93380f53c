"""Tensors on the wire: safetensors bodies, with every bound checked before a value is used.

A body holds named tensors and one JSON object, the *message*, which travels in the header's metadata under the
key `message`. Nothing in a body is ever executed: safetensors is a length, a JSON header and raw numbers.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, deserialize
from safetensors.numpy import save

from protocol.problems import InvalidRequest

MEDIA_TYPE = "application/safetensors"
MAX_HEADER_BYTES = 16 << 20  # names and texts of a large batch; the numbers are not in the header
MAX_TENSORS = 64
MAX_ROW = 1 << 31  # numbers of one row of a tensor that has none

DTYPES: dict[str, np.dtype[Any]] = {
    "F32": np.dtype("<f4"),
    "I32": np.dtype("<i4"),
    "U8": np.dtype("u1"),
}

Array = NDArray[Any]


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


def encode(tensors: Mapping[str, Array], message: Mapping[str, Any] | None = None) -> bytes:
    """One safetensors body of the tensors and the JSON-able message."""
    metadata = None if message is None else {"message": json.dumps(message, separators=(",", ":"))}
    return bytes(save({name: np.ascontiguousarray(t) for name, t in tensors.items()}, metadata=metadata))


def decode(
    body: bytes, specs: Mapping[str, TensorSpec], sizes: Mapping[str, int] | None = None
) -> tuple[dict[str, Array], dict[str, Any]]:
    """The tensors and the message of a body.

    Args:
        body: The whole body; its length was bounded by whoever read it.
        specs: Every tensor that may occur.
        sizes: Sizes of named dimensions that are known beforehand.

    Raises:
        InvalidRequest: The body is not safetensors, a tensor is unknown, missing or of another dtype or shape, a
            float is not finite, or the message is not a JSON object. The tensor at fault is named.
    """
    header = _header(body)
    message = _message(header.pop("__metadata__", None))
    _check_layout(header, specs, dict(sizes or {}))
    try:
        parts = deserialize(body)  # type: ignore[no-untyped-call]
    except SafetensorError as error:
        raise InvalidRequest.of("body", f"not a valid safetensors body ({error})") from error
    tensors = {}
    for name, part in parts:
        tensor = np.frombuffer(part["data"], dtype=DTYPES[part["dtype"]]).reshape(part["shape"])
        refused = np.isinf if specs[name].nan else _not_finite
        if tensor.dtype.kind == "f" and refused(tensor).any():
            raise InvalidRequest.of(name, "holds NaN or infinity; every value must be finite")
        tensors[name] = tensor
    return tensors, message


def _not_finite(tensor: Array) -> Array:
    finite: Array = np.isfinite(tensor)
    return ~finite


def _header(body: bytes) -> dict[str, Any]:
    """The JSON header, its length checked against the body and a fixed bound before it is parsed."""
    size = int.from_bytes(body[:8], "little")
    if len(body) < 8 or size > len(body) - 8:
        raise InvalidRequest.of("body", "not a safetensors body: it ends before its header does")
    if size > MAX_HEADER_BYTES:
        raise InvalidRequest.of("body", f"the safetensors header is over {MAX_HEADER_BYTES} bytes")
    try:
        header = json.loads(body[8 : 8 + size])
    except (ValueError, RecursionError) as error:
        raise InvalidRequest.of("body", "not a safetensors body: its header is not JSON") from error
    if not isinstance(header, dict):
        raise InvalidRequest.of("body", "not a safetensors body: its header is not a JSON object")
    return header


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


def _check_layout(header: Mapping[str, Any], specs: Mapping[str, TensorSpec], sizes: dict[str, int]) -> None:
    """Names, dtypes and shapes as the header states them; safetensors itself checks that the numbers agree."""
    if len(header) > MAX_TENSORS:
        raise InvalidRequest.of("body", f"holds {len(header)} tensors; at most {MAX_TENSORS} are read")
    for name in header:
        if name not in specs:
            raise InvalidRequest.of(name, f"unknown tensor; expected {', '.join(specs)}")
    for name, spec in specs.items():
        if name in header:
            _check_tensor(name, header[name], spec, sizes)
        elif not spec.optional:
            raise InvalidRequest.of(name, "this tensor is missing")


def _check_tensor(name: str, entry: Any, spec: TensorSpec, sizes: dict[str, int]) -> None:
    dtype = entry.get("dtype") if isinstance(entry, dict) else None
    shape = entry.get("shape") if isinstance(entry, dict) else None
    if dtype != spec.dtype:
        raise InvalidRequest.of(name, f"dtype {dtype!r}; expected {spec.dtype}")
    if not isinstance(shape, list) or not all(isinstance(s, int) and s >= 0 for s in shape):
        raise InvalidRequest.of(name, "its shape is not a list of sizes")
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
