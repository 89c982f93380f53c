"""Blobs at a URL that fsspec knows, as `s3://bucket/folder`: uploaded whole, downloaded to the local disk to be read.

A blob is as durable as the service makes it that has answered; a folder of this machine is `folder`'s matter, which
flushes. Credentials are those of the URL's library: for S3, `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY` and, for other
servers than Amazon's, `AWS_ENDPOINT_URL`.
"""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import fsspec.core

from services.coordinator.store import temporaries
from services.coordinator.store.blobs import MODELS, UPDATES, Blobs, reached

CACHED = 4
"""The current version, the best one, and those that clients who are late still fetch."""


class RemoteBlobs(Blobs):
    """The blobs under a URL. Models that were read stay in a cache on the local disk, since a version never changes."""

    def __init__(self, url: str, folder: Path) -> None:
        """`folder` is this process's own, for what comes and goes.

        Raises:
            ValueError: The URL is of no kind that is installed.
            OSError: The place cannot be reached, or the folder not be written.
        """
        super().__init__(folder / "incoming")
        self._cache = folder / "cache"
        self._cache.mkdir(exist_ok=True)
        for old in self._cache.iterdir():  # of another URL, it may be
            old.unlink(missing_ok=True)
        try:
            # Another coordinator writes there too: what was listed a while ago is not what is there.
            self._files, self._root = _opened(url)
        except ImportError as error:
            raise ValueError(f"{error}; for s3:// the extra is needed: pip install '.[s3]'") from error
        for kind in (MODELS, UPDATES):
            with _as_os_error():
                self._files.makedirs(f"{self._root}/{kind}", exist_ok=True)

    def _keep(self, name: str, file: Path) -> None:
        reached("blob.written", name)
        # Under another name first: of the stores that fsspec knows, some show a file while it is written.
        part = f"{self._root}/{name}.{secrets.token_hex(8)}{temporaries.SUFFIX}"
        try:
            with _as_os_error():
                self._files.put_file(str(file), part)
                reached("blob.synced", name)
                self._files.mv(part, f"{self._root}/{name}")
        except OSError:
            with suppress(OSError), _as_os_error():
                self._files.rm_file(part)
            raise
        reached("blob.renamed", name)
        self._cached(name).unlink(missing_ok=True)
        file.unlink()

    @contextmanager
    def _local(self, name: str) -> Iterator[Path]:
        # A link of the context's own, so that nobody deletes the file between here and its opening.
        path, cached = self.temporary(), self._cached(name)
        try:
            try:
                path.hardlink_to(cached)
                os.utime(path)  # one file with the cached one
            except FileNotFoundError:
                self._download(name, path)
            yield path
        finally:
            path.unlink(missing_ok=True)

    def _download(self, name: str, path: Path) -> None:
        path.unlink(missing_ok=True)
        with _as_os_error():
            self._files.get_file(f"{self._root}/{name}", str(path))
        if name.startswith(MODELS):
            with suppress(FileExistsError):  # another thread has fetched it meanwhile
                self._cached(name).hardlink_to(path)
            self._forget()

    def _cached(self, name: str) -> Path:
        return self._cache / name.replace("/", ".")

    def _forget(self) -> None:
        """Keep the models that were read last; which of them are deleted, another coordinator may decide."""
        read = {}
        for path in self._cache.iterdir():
            with suppress(FileNotFoundError):
                read[path] = path.stat().st_mtime_ns
        for path in sorted(read, key=read.__getitem__)[:-CACHED]:
            path.unlink(missing_ok=True)

    def _names(self, kind: str) -> list[str]:
        found = []
        with suppress(FileNotFoundError), _as_os_error():  # a store without folders has no empty one
            self._files.invalidate_cache()
            found = self._files.ls(f"{self._root}/{kind}", detail=False)
        return [str(path).rpartition("/")[2] for path in found]

    def _delete(self, name: str) -> None:
        self._cached(name).unlink(missing_ok=True)
        with suppress(FileNotFoundError), _as_os_error():
            self._files.rm_file(f"{self._root}/{name}")


def _opened(url: str) -> tuple[Any, str]:
    """The file system of a URL, which remembers no lists of names, and the path in it."""
    files, root = fsspec.core.url_to_fs(url, use_listings_cache=False)
    return files, str(root).rstrip("/")


@contextmanager
def _as_os_error() -> Iterator[None]:
    """Whatever the libraries raise that speak with the service, as what a disk would raise.

    Raises:
        OSError: The service does not answer, or refuses.
    """
    try:
        yield
    except OSError:
        raise
    except Exception as error:
        raise OSError(f"the blobs cannot be reached: {error}") from error
