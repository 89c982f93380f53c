"""Tensors on the wire: safetensors bodies, with every bound checked before a value is used.

A body holds named tensors and one JSON object, the *message*, which travels in the header's metadata under the
key `message`. Nothing in a body is ever executed: safetensors is a length, a JSON header and raw numbers.
`tensor_headers` has what stands before the numbers; `tensor_files` does with files what this does in memory.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from protocol.problems import InvalidRequest
from protocol.tensor_headers import (
    DTYPES,
    LENGTH_BYTES,
    MAX_HEADER_BYTES,
    MAX_TENSORS,
    TensorSpec,
    header_size,
    layout,
    pack_header,
    parse_header,
)

__all__ = [
    "DTYPES",
    "MAX_HEADER_BYTES",
    "MAX_TENSORS",
    "MEDIA_TYPE",
    "Array",
    "TensorSpec",
    "decode",
    "encode",
    "from_wire",
    "to_wire",
]

MEDIA_TYPE = "application/safetensors"

BEYOND = {"F16": 65520.0, "BF16": float(np.uint32(0x7F7F8000).view(np.float32))}
"""The first numbers that would be rounded to infinity."""

Array = NDArray[Any]


def encode(tensors: Mapping[str, Array], message: Mapping[str, Any] | None = None, dtype: str = "F32") -> bytes:
    """One safetensors body of the tensors and the JSON-able message.

    Args:
        tensors: float32, int32 or uint8.
        message: Absent from the body where it is None.
        dtype: How float32 travels: F32, F16 or BF16.

    Raises:
        InvalidRequest: A number is NaN or beyond what F16 or BF16 can hold.
    """
    kinds = {name: _kind(array, dtype) for name, array in tensors.items()}
    places = layout({name: (kinds[name], array.shape) for name, array in tensors.items()})
    parts = [to_wire(name, np.ascontiguousarray(tensors[name]), kinds[name]) for name in places]
    return b"".join([pack_header(places, message), *(part.tobytes() for part in parts)])


def decode(
    body: bytes, specs: Mapping[str, TensorSpec], sizes: Mapping[str, int] | None = None
) -> tuple[dict[str, Array], dict[str, Any]]:
    """The tensors, as arrays of their own, and the message of a body.

    Args:
        body: The whole body; its length was bounded by whoever read it.
        specs: Every tensor that may occur.
        sizes: Sizes of named dimensions that are known beforehand.

    Raises:
        InvalidRequest: The body is not safetensors, a tensor is unknown, missing or of another dtype or shape, a
            float is not finite, or the message is not a JSON object. The tensor at fault is named.
    """
    size = header_size(body[:LENGTH_BYTES], len(body))
    first = LENGTH_BYTES + size
    places, message = parse_header(body[LENGTH_BYTES:first], len(body) - first, specs, sizes)
    tensors = {}
    for name, place in places.items():
        raw = np.frombuffer(body, DTYPES[place.dtype], place.count, first + place.start).reshape(place.shape)
        tensor = from_wire(raw, place.dtype) if place.dtype in BEYOND else raw.copy()
        refused = np.isinf if specs[name].nan else _not_finite
        if tensor.dtype.kind == "f" and refused(tensor).any():
            raise InvalidRequest.of(name, "holds NaN or infinity; every value must be finite")
        tensors[name] = tensor
    return tensors, message


def to_wire(name: str, array: Array, dtype: str) -> Array:
    """Numbers as they travel in a dtype. F16 and BF16 are rounded to the nearest, halves to even.

    Raises:
        InvalidRequest: A number is NaN or beyond what F16 or BF16 can hold.
    """
    if dtype not in BEYOND:
        return array
    # Both are NaN where one number is, and then no comparison holds.
    if array.size and not (array.max() < BEYOND[dtype] and array.min() > -BEYOND[dtype]):
        kept, wide = ("±65504 (float16)", "`bfloat16`") if dtype == "F16" else ("±3.39e38 (bfloat16)", "`float32`")
        raise InvalidRequest.of(name, f"holds NaN or a number beyond {kept}; the wire_dtype {wide} holds larger ones")
    if dtype == "F16":
        return array.astype(DTYPES[dtype])
    bits = array.view(np.uint32)
    return ((bits + (0x7FFF + ((bits >> 16) & 1))) >> 16).astype(DTYPES[dtype])


def from_wire(raw: Array, dtype: str) -> Array:
    """Numbers as they are in memory: float32 for F16 and BF16."""
    if dtype == "BF16":
        return (raw.astype(np.uint32) << 16).view(np.float32)
    return raw.astype(np.float32) if dtype == "F16" else raw


def _kind(array: Array, dtype: str) -> str:
    """How an array travels."""
    if array.dtype == np.float32:
        return dtype
    for kind in ("I32", "U8"):
        if array.dtype == DTYPES[kind]:
            return kind
    raise TypeError(f"{array.dtype} does not travel; float32, int32 and uint8 do")


def _not_finite(tensor: Array) -> Array:
    finite: Array = np.isfinite(tensor)
    return ~finite
