"""Files that are written whole or not at all, also where the process is killed or the power goes."""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

Arrays = Mapping[str, NDArray[Any]]


class Damaged(Exception):
    """A file is not what was written; the message names it."""


@contextmanager
def whole(path: Path, mode: int = 0o666) -> Iterator[BinaryIO]:
    """A file to write, which stands at `path` once the context is left without an error.

    Args:
        path: Replaced in one step; folders above it are made.
        mode: Of the new file, less what the umask takes away.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = _part(path)
    part.unlink(missing_ok=True)  # a killed process may have left it, with another mode
    try:
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as out:
            yield out
        _put(part, path)
    finally:
        part.unlink(missing_ok=True)


def save_arrays(path: Path, arrays: Arrays, **message: object) -> None:
    """Write arrays and a JSON message to a safetensors file, with a digest by which `load_arrays` knows them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = _part(path)
    contiguous = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    text = json.dumps(message | {"sha256": _digest(contiguous, message)})
    save_file(contiguous, part, {"message": text})
    _put(part, path)


def load_arrays(path: Path) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """The arrays and the message that `save_arrays` wrote.

    Raises:
        Damaged: The file is anything else.
        OSError: It cannot be read.
    """
    try:
        arrays = load_file(path)
        with path.open("rb") as body:
            header = json.loads(body.read(int.from_bytes(body.read(8), "little")))
        message = json.loads(header["__metadata__"]["message"])
        intact = message.pop("sha256") == _digest(arrays, message)
    except (SafetensorError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise Damaged(f"{path}: is damaged ({error})") from error
    if not intact:
        raise Damaged(f"{path}: is damaged (it does not hold what was written)")
    return arrays, message


def _part(path: Path) -> Path:
    return path.with_name(path.name + ".tmp")


def _put(part: Path, path: Path) -> None:
    """Move a written file to its place. What it holds is on the disk before its name is."""
    _flush(part)
    part.replace(path)
    if os.name == "posix":  # elsewhere a folder cannot be opened
        _flush(path.parent)


def _flush(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY if os.name == "posix" else os.O_RDWR)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _digest(arrays: Arrays, message: Mapping[str, object]) -> str:
    digest = hashlib.sha256(json.dumps(message, sort_keys=True).encode())
    for name in sorted(arrays):
        digest.update(f"{name} {arrays[name].dtype} {arrays[name].shape}\n".encode())
        digest.update(arrays[name].data if arrays[name].size else b"")
    return digest.hexdigest()
