"""Blobs at a URL that fsspec knows, as `s3://bucket/folder`: uploaded whole, downloaded to the local disk to be read.

A blob is durable once the service that keeps it has answered. Credentials are those of the URL's library: for S3,
`AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY` and, for other servers than Amazon's, `AWS_ENDPOINT_URL`.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import fsspec

from services.coordinator.failpoints import failpoint
from services.coordinator.store.blobs import MODELS, SUFFIX, TEMPORARY, Blobs

CACHED = 4
"""The current version, the best one, and those that clients who are late still fetch."""


class RemoteBlobs(Blobs):
    """The blobs under a URL. Models that were read stay in `cache`, since a version never changes."""

    def __init__(self, url: str, folder: Path) -> None:
        """`folder` is this process's own, for what comes and goes.

        Raises:
            ValueError: The URL is of no kind that is installed.
            OSError: The place cannot be reached.
        """
        super().__init__(folder / "incoming")
        self._cache = folder / "cache"
        self._cache.mkdir(exist_ok=True)
        try:
            # Another coordinator writes there too: what was listed a while ago is not what is there.
            self._files, self._root = fsspec.core.url_to_fs(url, use_listings_cache=False)
        except ImportError as error:
            raise ValueError(f"{error}; for s3:// install `tripleherd[s3]`") from error
        self._files.makedirs(self._root, exist_ok=True)

    def _keep(self, name: str, file: Path) -> None:
        failpoint("blob.written")
        # Stores that have no folders have none to make; others need them.
        self._files.makedirs(f"{self._root}/{name}".rpartition("/")[0], exist_ok=True)
        # Under another name first: of the stores that fsspec knows, some show a file while it is written.
        part = f"{self._root}/{name}{TEMPORARY}"
        self._files.put_file(str(file), part)
        failpoint("blob.synced")
        self._files.mv(part, f"{self._root}/{name}")
        failpoint("blob.renamed")
        file.unlink()

    @contextmanager
    def _local(self, name: str) -> Iterator[Path]:
        kept = self._cache / name.replace("/", ".")
        if name.startswith(MODELS) and kept.is_file():
            yield kept
            return
        path = self.temporary()
        try:
            self._files.get_file(f"{self._root}/{name}", str(path))
            if name.startswith(MODELS):
                path = path.rename(kept)
                self._forget_old()
            yield path
        finally:
            if path != kept:
                path.unlink(missing_ok=True)

    def _forget_old(self) -> None:
        """Keep the models that were read last: which ones are deleted meanwhile, another coordinator may decide."""
        for old in sorted(self._cache.iterdir(), key=lambda path: path.stat().st_mtime)[:-CACHED]:
            old.unlink(missing_ok=True)

    def _names(self, kind: str) -> list[str]:
        self._files.invalidate_cache()
        try:
            found = self._files.ls(f"{self._root}/{kind}", detail=False)
        except FileNotFoundError:
            return []
        return [name for name in (path.rpartition("/")[2] for path in found) if name.endswith(SUFFIX)]

    def _delete(self, name: str) -> None:
        (self._cache / name.replace("/", ".")).unlink(missing_ok=True)
        try:
            self._files.rm_file(f"{self._root}/{name}")
        except FileNotFoundError:
            return
