"""Blobs: global models by version, the updates of rounds that are not closed, and the mark of whose they are.

A blob appears whole or not at all, and only then may the database speak of it. `folder` keeps them in a folder, `remote`
at any URL that fsspec knows.
"""

import secrets
from abc import ABC, abstractmethod
from collections.abc import Collection
from contextlib import AbstractContextManager
from pathlib import Path

TEMPORARY = ".tmp"
SUFFIX = ".safetensors"
MARK = "store.json"
MODELS, UPDATES = "models", "updates"


def update_name(round: int, client: str, digest: str) -> str:
    """The name of an update's blob; the digest keeps two bodies for one place apart until one is accepted."""
    return f"{round}.{client}.{digest}"


class Blobs(ABC):
    """Where tensors are. Everything on its way to there is a temporary file on the local disk."""

    def __init__(self, incoming: Path) -> None:
        """`incoming` is this process's own: what a process that was killed has left in it is swept.

        Raises:
            OSError: It cannot be written.
        """
        self._incoming = incoming
        incoming.mkdir(parents=True, exist_ok=True)
        for path in incoming.glob("*" + TEMPORARY):
            path.unlink(missing_ok=True)

    def temporary(self) -> Path:
        """A path on the local disk for a file that may be kept; whoever makes the file deletes it otherwise."""
        return self._incoming / (secrets.token_hex(16) + TEMPORARY)

    def keep_update(self, name: str, file: Path) -> None:
        """Take over a complete temporary file as an update; it lasts when this returns.

        Raises:
            OSError: It cannot be kept; no part of it is.
        """
        self._keep(f"{UPDATES}/{name}{SUFFIX}", file)

    def keep_model(self, version: int, file: Path) -> None:
        """Take over a complete temporary file as the model of a version; it lasts when this returns.

        Raises:
            OSError: It cannot be kept; no part of it is.
        """
        self._keep(f"{MODELS}/{version}{SUFFIX}", file)

    def update(self, name: str) -> AbstractContextManager[Path]:
        """An update as a local file, for as long as the context lasts.

        Raises:
            FileNotFoundError: It is not kept (any more).
        """
        return self._local(f"{UPDATES}/{name}{SUFFIX}")

    def model(self, version: int) -> AbstractContextManager[Path]:
        """The model of a version as a local file, for as long as the context lasts; what is opened stays open.

        Raises:
            FileNotFoundError: It is not kept (any more).
        """
        return self._local(f"{MODELS}/{version}{SUFFIX}")

    def prune(self, current: int, keep: Collection[int]) -> None:
        """Delete what rounds before `current` left: their updates, and their models but for the versions to keep."""
        for name in self._names(UPDATES):
            if _number(name) < current:
                self._delete(f"{UPDATES}/{name}")
        for name in self._names(MODELS):
            if _number(name) < current and _number(name) not in keep:
                self._delete(f"{MODELS}/{name}")

    def mark(self) -> str | None:
        """Whose blobs these are; None where nobody has said so."""
        try:
            with self._local(MARK) as path:
                return path.read_text()
        except FileNotFoundError:
            return None

    def set_mark(self, store: str) -> None:
        """Say whose blobs these are.

        Raises:
            OSError: It cannot be written.
        """
        file = self.temporary()
        file.write_text(store)
        self._keep(MARK, file)

    def empty(self) -> bool:
        """Whether there is no model and no update."""
        return not self._names(MODELS) and not self._names(UPDATES)

    def probe(self) -> None:
        """Write and delete a small blob.

        Raises:
            OSError: Nothing can be written.
        """
        name = f"probe.{secrets.token_hex(8)}"
        file = self.temporary()
        try:
            file.write_bytes(b"probe" * 1000)
            self._keep(name, file)
            self._delete(name)
        finally:
            file.unlink(missing_ok=True)

    @abstractmethod
    def _keep(self, name: str, file: Path) -> None:
        """Make the file a blob of this name, in the place of one that is there."""

    @abstractmethod
    def _local(self, name: str) -> AbstractContextManager[Path]:
        """The blob as a local file."""

    @abstractmethod
    def _names(self, kind: str) -> list[str]:
        """Names of the blobs in `MODELS` or `UPDATES`."""

    @abstractmethod
    def _delete(self, name: str) -> None:
        """Delete a blob, if it is there."""


def _number(name: str) -> int:
    return int(name.partition(".")[0])
