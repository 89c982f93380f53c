"""A client's own folder: its key, where it is a member, how far it is in each training, and what came out.

    key.pem                  its private key, readable by its owner alone; one key is one client (see `keys`)
    member-<digest>.json     who it is to one coordinator
    states-<digest>…         what `llama` read in words, as `kept_states` has it
    <client>/<training>/     all of one training, as `checkpoints` has it

Every file is written whole or not at all, so a client may be killed at any time and started again.
"""

import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout
from pydantic import BaseModel, ValidationError

from trainer.checkpoints import HomeUnusable, TrainingHome
from trainer.files import whole


class Membership(BaseModel):
    """Who a client is to a coordinator.

    Attributes:
        coordinator: Its address.
        client: The client's id there.
        sent: SHA-256 of what the client told when it joined; it joins again where it has something else to tell.
    """

    coordinator: str
    client: str
    sent: str


@dataclass(frozen=True)
class Home:
    """The folder."""

    path: Path

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keep other processes off this home for as long as the context lasts.

        Raises:
            HomeUnusable: Another process has it.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        try:
            with FileLock(self.path / ".lock", timeout=0):
                yield
        except Timeout as error:
            raise HomeUnusable(
                f"{self.path}: another client is running with this home; stop it first, or be another client with "
                "another --home"
            ) from error

    def membership(self, coordinator: str) -> Membership | None:
        """Who the client is to this coordinator; None where it has not joined.

        Raises:
            HomeUnusable: What is kept cannot be read.
        """
        file = self._file(coordinator)
        return _read(file) if file.is_file() else None

    def memberships(self) -> list[Membership]:
        """Who the client is to every coordinator that it has joined.

        Raises:
            HomeUnusable: One of them cannot be read.
        """
        return [_read(file) for file in sorted(self.path.glob("member-*.json"))]

    def keep(self, membership: Membership) -> None:
        """Store a membership in the place of the one at the same coordinator."""
        with whole(self._file(membership.coordinator)) as out:
            out.write(membership.model_dump_json().encode())

    def forget(self, coordinator: str) -> None:
        """Drop the membership at this coordinator."""
        self._file(coordinator).unlink(missing_ok=True)

    def training(self, client: str, training: str) -> TrainingHome:
        """The part that belongs to one training of one client.

        Raises:
            HomeUnusable: The ids, which the coordinator chose, name no folder in this home.
        """
        if not all(re.fullmatch(r"[\w-]{1,100}", name) for name in (client, training)):
            raise HomeUnusable(f"{client!r} and {training!r} are no ids of a client and a training")
        return TrainingHome(self.path / client / training)

    def _file(self, coordinator: str) -> Path:
        return self.path / f"member-{hashlib.sha256(coordinator.encode()).hexdigest()[:12]}.json"


def _read(file: Path) -> Membership:
    try:
        return Membership.model_validate_json(file.read_bytes())
    except ValidationError as error:
        raise HomeUnusable(f"{file}: is damaged; delete it, and the client joins again with the same key") from error
