"""A client's own folder: who it is to the coordinator, how far it is in each training, and what came out.

    client-<digest>.json     id, secret and join key for one coordinator and one graph; readable by its owner alone
    <client>/<training>/     all of one training:
        round-<n>.safetensors              the model after local training in round n: what was, or will be, sent
        version-<n>.safetensors            version n of the global model with the relations it was evaluated with
        isolation, federation, fusion/     trained models
        results.json                       the client's rows; its presence says that the client is done

Every file is written whole or not at all, so a client may be killed at any time and started again.
"""

import hashlib
import json
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from filelock import FileLock, Timeout
from pydantic import BaseModel, TypeAdapter, ValidationError
from safetensors.numpy import load_file

from protocol.federation import Mode
from trainer.model import Array
from trainer.results import ClientResult, write_results
from trainer.saved import save_arrays

T = TypeVar("T")
_RESULTS = TypeAdapter(list[ClientResult])


class HomeUnusable(Exception):
    """Another process works with this home, or a file in it is damaged; the message names it."""


class Credentials(BaseModel):
    """Who a client is. `join_key` is made before joining, so that joining again is not a second client.

    They belong to one graph: rows are sent in its order, so another graph is another client.
    """

    join_key: str
    coordinator: str
    graph: str
    triples: dict[str, int] = {}
    client: str | None = None
    secret: str | None = None


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
            raise HomeUnusable(f"{self.path}: another client is running with this home; give --home another") from error

    def credentials(self, coordinator: str, graph: str) -> Credentials:
        """Those kept for this coordinator and this graph (its digest), or fresh ones with a join key alone.

        Raises:
            HomeUnusable: Those kept cannot be read.
        """
        fresh = Credentials(join_key=secrets.token_hex(32), coordinator=coordinator, graph=graph)
        file = self._file(fresh)
        if file.is_file():
            return _read(file, Credentials.model_validate_json)
        self.keep(fresh)
        return fresh

    def keep(self, credentials: Credentials) -> None:
        """Store credentials, readable by the owner alone."""
        self.path.mkdir(parents=True, exist_ok=True)
        file = self._file(credentials)
        part = file.with_suffix(".part")
        part.unlink(missing_ok=True)
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as out:
            out.write(credentials.model_dump_json())
        part.replace(file)

    def training(self, client: str, training: str) -> "TrainingHome":
        """The part that belongs to one training of one client."""
        return TrainingHome(self.path / client / training)

    def _file(self, credentials: Credentials) -> Path:
        digest = hashlib.sha256(f"{credentials.coordinator}\n{credentials.graph}".encode()).hexdigest()
        return self.path / f"client-{digest[:12]}.json"


@dataclass(frozen=True)
class TrainingHome:
    """One training's part of a client's folder."""

    path: Path

    def round(self, number: int) -> tuple[dict[str, Array], float] | None:
        """The model after local training in this round and its loss; None if that has not happened."""
        file = self.path / f"round-{number}.safetensors"
        return (load_file(file), _message(file)["loss"]) if file.is_file() else None

    def keep_round(self, number: int, state: dict[str, Array], loss: float) -> None:
        """Store the model after local training; the round before it is kept, older ones go."""
        save_arrays(self.path / f"round-{number}.safetensors", state, loss=loss)
        for old in sorted(self._numbers("round"))[:-2]:
            (self.path / f"round-{old}.safetensors").unlink()

    def relations_before(self, number: int) -> Array | None:
        """Relation rows after the last kept round before this one, else after the first one kept; None without any."""
        kept = sorted(self._numbers("round"))
        nearest = max((n for n in kept if n < number), default=min(kept, default=None))
        return None if nearest is None else load_file(self.path / f"round-{nearest}.safetensors")["relations"]

    def begun(self) -> bool:
        """Whether the client has taken part in this training."""
        return bool(self._numbers("round") or self._numbers("version"))

    def version(self, number: int) -> dict[str, Array] | None:
        """The model as it was evaluated at this version."""
        file = self.path / f"version-{number}.safetensors"
        return load_file(file) if file.is_file() else None

    def keep_version(self, number: int, state: dict[str, Array], best: int | None) -> None:
        """Store the model of a version; all but it and the best one go."""
        save_arrays(self.path / f"version-{number}.safetensors", state)
        for old in self._numbers("version"):
            if old not in (number, best):
                (self.path / f"version-{old}.safetensors").unlink()

    def model(self, mode: Mode) -> Path:
        """The folder of a trained model."""
        return self.path / mode

    def results(self) -> list[ClientResult] | None:
        """The client's rows, if it is done with this training."""
        file = self.path / "results.json"
        return _read(file, _RESULTS.validate_json) if file.is_file() else None

    def keep_results(self, results: list[ClientResult]) -> None:
        """Store the rows: the client is done."""
        write_results(self.path / "results.json", results)

    def _numbers(self, kind: str) -> list[int]:
        return [int(file.stem.split("-")[1]) for file in self.path.glob(f"{kind}-*.safetensors")]


def _read(file: Path, parse: Callable[[bytes], T]) -> T:
    try:
        return parse(file.read_bytes())
    except ValidationError as error:
        raise HomeUnusable(f"{file}: is damaged; delete it to start over") from error


def _message(file: Path) -> dict[str, float]:
    with file.open("rb") as body:
        header = json.loads(body.read(int.from_bytes(body.read(8), "little")))
    message: dict[str, float] = json.loads(header["__metadata__"]["message"])
    return message
