"""Tensor files in a folder: global models by version, and the updates of rounds that are not closed.

A blob appears whole or not at all: temporary file, fsync, rename, fsync of the folder. Only then may the database
speak of it.
"""

import os
import secrets
from collections.abc import Collection, Mapping
from pathlib import Path

from safetensors.numpy import load_file

from protocol.tensors import Array, encode

_TEMPORARY = ".tmp"
_SUFFIX = ".safetensors"


def update_name(round: int, client: str, digest: str) -> str:
    """The name of an update's blob; the digest keeps two bodies for one place apart until one is accepted."""
    return f"{round}.{client}.{digest}"


class Blobs:
    """The folders `models` and `updates` under `root`. Left-over temporary files are swept when it is made."""

    def __init__(self, root: Path) -> None:
        self._models = root / "models"
        self._updates = root / "updates"
        for folder in (self._models, self._updates):
            folder.mkdir(parents=True, exist_ok=True)
            for path in folder.glob("*" + _TEMPORARY):
                path.unlink(missing_ok=True)

    def write_model(self, version: int, tensors: Mapping[str, Array]) -> None:
        """Keep the global model of a version."""
        _write(self._models / f"{version}{_SUFFIX}", encode(tensors))

    def read_model(self, version: int) -> dict[str, Array]:
        """The global model of a version.

        Raises:
            FileNotFoundError: It is not kept (any more).
        """
        return _load(self._models / f"{version}{_SUFFIX}")

    def write_update(self, name: str, body: bytes) -> None:
        """Keep an update's body, which is safetensors already."""
        _write(self._updates / (name + _SUFFIX), body)

    def read_update(self, name: str) -> dict[str, Array]:
        """The tensors of an update."""
        return _load(self._updates / (name + _SUFFIX))

    def prune(self, current: int, keep: Collection[int]) -> None:
        """Delete what rounds before `current` left: their updates, and their models but for the versions to keep."""
        for path in self._updates.glob("*" + _SUFFIX):
            if _number(path) < current:
                path.unlink(missing_ok=True)
        for path in self._models.glob("*" + _SUFFIX):
            if _number(path) < current and _number(path) not in keep:
                path.unlink(missing_ok=True)

    def probe(self) -> None:
        """Write and delete a small file.

        Raises:
            OSError: The folder is not writable, or full.
        """
        path = self._updates / f"probe.{secrets.token_hex(8)}{_TEMPORARY}"
        try:
            path.write_bytes(b"probe")
        finally:
            path.unlink(missing_ok=True)


def _number(path: Path) -> int:
    return int(path.name.partition(".")[0])


def _load(path: Path) -> dict[str, Array]:
    tensors: dict[str, Array] = load_file(path)
    return tensors


def _write(path: Path, data: bytes) -> None:
    temporary = path.with_name(f"{path.name}.{secrets.token_hex(8)}{_TEMPORARY}")
    try:
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.rename(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
