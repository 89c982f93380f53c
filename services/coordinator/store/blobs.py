"""Blobs: global models by version, the updates of rounds that are not closed, and the mark of whose they are.

A blob appears whole or not at all, and only then may the database speak of it. `folder` keeps them in a folder,
`remote` at any URL that fsspec knows.
"""

import json
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

from services.coordinator.failpoints import failpoint
from services.coordinator.store.temporaries import Temporaries

SUFFIX = ".safetensors"
MARK = "store.json"
MODELS, UPDATES = "models", "updates"


def update_name(round: int, client: str, digest: str) -> str:
    """The name of an update's blob; the digest keeps two bodies for one place apart until one is accepted."""
    return f"{round}.{client}.{digest}"


class Blobs(ABC):
    """Where tensors are. Everything on its way to there is a temporary file on the local disk."""

    def __init__(self, incoming: Path) -> None:
        """`incoming` is the folder of temporary files; see `Temporaries` for what is swept there.

        Raises:
            OSError: It cannot be written.
        """
        self._temporaries = Temporaries(incoming)

    def temporary(self) -> Path:
        """A path on the local disk for a file that may be kept; whoever makes the file deletes it otherwise."""
        return self._temporaries.fresh()

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

    def drop_update(self, name: str) -> None:
        """Delete an update that the database does not speak of.

        Raises:
            OSError: It cannot be deleted.
        """
        self._delete(f"{UPDATES}/{name}{SUFFIX}")

    def update(self, name: str) -> AbstractContextManager[Path]:
        """An update as a local file, for as long as the context lasts.

        Raises:
            FileNotFoundError: It is not kept (any more).
            OSError: It cannot be read.
        """
        return self._local(f"{UPDATES}/{name}{SUFFIX}")

    def model(self, version: int) -> AbstractContextManager[Path]:
        """The model of a version as a local file, for as long as the context lasts; what is opened stays open.

        Raises:
            FileNotFoundError: It is not kept (any more).
            OSError: It cannot be read.
        """
        return self._local(f"{MODELS}/{version}{SUFFIX}")

    def models(self) -> set[int]:
        """The versions that are kept."""
        return {number for number, name in self._numbered(MODELS) if name == f"{number}{SUFFIX}"}

    def updates(self) -> set[str]:
        """The names of the updates that are kept."""
        return {name.removesuffix(SUFFIX) for _, name in self._numbered(UPDATES) if name.endswith(SUFFIX)}

    def prune(self, current: int, keep: Collection[int]) -> None:
        """Delete what rounds before `current` left: their updates, and their models but for the versions to keep.

        Raises:
            OSError: Something cannot be deleted.
        """
        for number, name in self._numbered(UPDATES):
            if number < current:
                self._delete(f"{UPDATES}/{name}")
        for number, name in self._numbered(MODELS):
            if number < current and number not in keep:
                self._delete(f"{MODELS}/{name}")

    def mark(self) -> str | None:
        """Whose blobs these are; None where nobody has said so.

        Raises:
            ValueError: What stands there is no mark.
            OSError: It cannot be read.
        """
        try:
            with self._local(MARK) as path:
                found = json.loads(path.read_bytes())
        except FileNotFoundError:
            return None
        if not isinstance(found, dict) or not isinstance(found.get("store"), str):
            raise ValueError(f"{MARK} is damaged")
        return str(found["store"])

    def set_mark(self, store: str) -> None:
        """Say whose blobs these are.

        Raises:
            OSError: It cannot be written.
        """
        file = self.temporary()
        try:
            file.write_text(json.dumps({"store": store}) + "\n")
            self._keep(MARK, file)
        finally:
            file.unlink(missing_ok=True)

    def probe(self) -> None:
        """Write and delete a small blob.

        Raises:
            OSError: Nothing can be written.
        """
        file = self.temporary()
        try:
            file.write_bytes(b"probe" * 1000)
            self._keep("probe", file)
            self._delete("probe")
        finally:
            file.unlink(missing_ok=True)

    def _numbered(self, kind: str) -> Iterator[tuple[int, str]]:
        """The names that begin with the number of a round or a version, as all do that were kept here."""
        for name in self._names(kind):
            number = name.partition(".")[0]
            if number.isdecimal():
                yield int(number), name

    @abstractmethod
    def _keep(self, name: str, file: Path) -> None:
        """Make the file a blob of this name, in the place of one that is there."""

    @abstractmethod
    def _local(self, name: str) -> AbstractContextManager[Path]:
        """The blob as a local file."""

    @abstractmethod
    def _names(self, kind: str) -> list[str]:
        """Names of the files in `MODELS` or `UPDATES`."""

    @abstractmethod
    def _delete(self, name: str) -> None:
        """Delete a blob, if it is there."""


def reached(place: str, name: str) -> None:
    """A failpoint on the way of a blob that holds tensors; the mark and a probe pass."""
    if name.endswith(SUFFIX):
        failpoint(place)
