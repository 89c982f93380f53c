"""A client's own folder: who it is to the coordinator, how far it is in each training, and what came out.

    client.json                         the client's id, secret and join key; readable by its owner alone
    <training>/round-<n>.safetensors    the model after local training in round n: what was, or will be, sent
    <training>/version-<n>.safetensors  version n of the global model with the relations it was evaluated with
    <training>/isolation, federation, fusion/   trained models
    <training>/results.json             the client's rows; its presence says that the client is done

Every file is written whole or not at all, so a client may be killed at any time and started again.
"""

import json
import os
import secrets
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel
from safetensors.numpy import load_file

from protocol.federation import Mode
from trainer.model import Array
from trainer.results import ClientResult, read_results, write_results
from trainer.saved import save_arrays


class Credentials(BaseModel):
    """Who a client is. `join_key` is made before joining, so that joining again is not a second client."""

    join_key: str
    coordinator: str
    client: str | None = None
    secret: str | None = None


@dataclass(frozen=True)
class Home:
    """The folder."""

    path: Path

    def credentials(self, coordinator: str) -> Credentials:
        """Those kept for this coordinator, or fresh ones with a join key alone."""
        file = self.path / "client.json"
        if file.is_file():
            kept = Credentials.model_validate_json(file.read_bytes())
            if kept.coordinator == coordinator:
                return kept
        fresh = Credentials(join_key=secrets.token_hex(32), coordinator=coordinator)
        self.keep(fresh)
        return fresh

    def keep(self, credentials: Credentials) -> None:
        """Store credentials, readable by the owner alone."""
        self.path.mkdir(parents=True, exist_ok=True)
        part = self.path / "client.json.part"
        part.unlink(missing_ok=True)
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(credentials.model_dump_json())
        part.replace(self.path / "client.json")

    def training(self, training: str) -> "TrainingHome":
        """The part that belongs to one training."""
        return TrainingHome(self.path / training)


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
        """Relation rows after the last round before this one; None before the first."""
        earlier = [n for n in self._numbers("round") if n < number]
        return load_file(self.path / f"round-{max(earlier)}.safetensors")["relations"] if earlier else None

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
        return read_results(file) if file.is_file() else None

    def keep_results(self, results: list[ClientResult]) -> None:
        """Store the rows: the client is done."""
        write_results(self.path / "results.json", results)

    def _numbers(self, kind: str) -> list[int]:
        return [int(file.stem.split("-")[1]) for file in self.path.glob(f"{kind}-*.safetensors")]


def _message(file: Path) -> dict[str, float]:
    with file.open("rb") as body:
        header = json.loads(body.read(int.from_bytes(body.read(8), "little")))
    message: dict[str, float] = json.loads(header["__metadata__"]["message"])
    return message
