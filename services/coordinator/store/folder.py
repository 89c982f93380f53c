"""Blobs in a folder: temporary file, fsync, rename, fsync of the folder. Killed anywhere, a blob is whole or absent."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from services.coordinator.store.blobs import MODELS, UPDATES, Blobs, reached


class FolderBlobs(Blobs):
    """The folders `models`, `updates` and `incoming` under `root`, on one file system."""

    def __init__(self, root: Path) -> None:
        """Make the folders where there are none.

        Raises:
            OSError: They cannot be written.
        """
        super().__init__(root / "incoming")
        self._root = root
        for kind in (MODELS, UPDATES):
            (root / kind).mkdir(exist_ok=True)
        _sync(root)

    def _keep(self, name: str, file: Path) -> None:
        reached("blob.written", name)
        _sync(file)
        reached("blob.synced", name)
        target = self._root / name
        file.rename(target)
        reached("blob.renamed", name)
        _sync(target.parent)

    @contextmanager
    def _local(self, name: str) -> Iterator[Path]:
        path = self._root / name
        if not path.is_file():
            raise FileNotFoundError(f"{name} is not kept")
        yield path

    def _names(self, kind: str) -> list[str]:
        return [path.name for path in (self._root / kind).iterdir()]

    def _delete(self, name: str) -> None:
        (self._root / name).unlink(missing_ok=True)


def _sync(path: Path) -> None:
    """Flush a file, or a folder's list of names, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
