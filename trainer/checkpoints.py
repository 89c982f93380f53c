"""One training's part of a client's folder: how far the client is, so that it can be killed at any time.

    graph                          digest of the graph that takes part
    round-<n>.part.safetensors     after an epoch of round n: the model, the optimiser and the random generator
    round-<n>.safetensors          the model after round n, until the coordinator has taken or refused it
    own-<n>.safetensors            the rows that stay at the client (relations, in FedE) after round n
    version-<n>.safetensors        the model as version n was evaluated
    isolation, federation, fusion/ trained models
    results.json                   the client's rows; its presence says that the client is done

**Rows that stay here belong to a version.** Those of version n are the ones after the last round before n whose update
the coordinator took. A round whose update was refused, because it closed meanwhile, leaves no trace: its rows were
trained together with shared rows that nobody has. So a client's model of a version is a function of what the
coordinator took, wherever anybody was killed.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from pydantic import ValidationError

from protocol.rounds import Mode
from trainer.files import Damaged, load_arrays, save_arrays, whole
from trainer.model import Array
from trainer.results import ClientResult, read_results, write_results


class HomeUnusable(Exception):
    """Another process works with this home, or a file in it is of no use; the message names it and the way out."""


@dataclass(frozen=True)
class TrainedRound:
    """What a round's local epochs made.

    Attributes:
        state: The model, as `Model.state`.
        loss: Mean training loss of the last epoch.
        triples: Training triples that it was trained on.
    """

    state: dict[str, Array]
    loss: float
    triples: int


@dataclass(frozen=True)
class Checkpoint:
    """A round between two of its local epochs.

    Attributes:
        arrays: As `Trainer.snapshot`.
        epochs: Those done.
        loss: Mean training loss of the last one.
    """

    arrays: Mapping[str, NDArray[Any]]
    epochs: int
    loss: float


@dataclass(frozen=True)
class TrainingHome:
    """The folder.

    Raises (whatever reads):
        HomeUnusable: A file is damaged that nothing else can stand in for.
    """

    path: Path

    def begin(self, graph: str) -> None:
        """Note that a graph, by its digest, takes part.

        Raises:
            HomeUnusable: Another one has trained here: its rows are not this one's.
        """
        file = self.path / "graph"
        if not self.begun(graph):
            if self.path.is_dir() and {each.name for each in self.path.iterdir()} - {file.name}:
                raise HomeUnusable(
                    f"{self.path}: this training was begun with other entities or relations, or another shared key; go "
                    "back to these, or wait for the next training"
                )
            with whole(file) as out:
                out.write(graph.encode())

    def begun(self, graph: str) -> bool:
        """Whether the client takes or took part in this training with this graph, by its digest."""
        file = self.path / "graph"
        return file.is_file() and file.read_text(errors="replace") == graph

    def checkpoint(self, number: int, data: str) -> Checkpoint | None:
        """Where an unfinished round was left; None where it has to begin anew.

        Args:
            number: Of the round.
            data: Digest of what is trained on; a checkpoint of anything else, or a damaged one, is not used: the epochs
                are run again, with the same result.
        """
        try:
            arrays, message = load_arrays(self._file("round", number, ".part"))
        except (FileNotFoundError, Damaged):
            return None
        return Checkpoint(arrays, message["epochs"], message["loss"]) if message["data"] == data else None

    def keep_checkpoint(self, number: int, data: str, checkpoint: Checkpoint) -> None:
        """Store where a round is; checkpoints of other rounds go."""
        file = self._file("round", number, ".part")
        save_arrays(file, checkpoint.arrays, epochs=checkpoint.epochs, loss=checkpoint.loss, data=data)
        self._drop_parts(file)

    def unsettled(self) -> list[int]:
        """Rounds that were trained, and of which is not known whether the coordinator has taken them."""
        return self._numbers("round")

    def round(self, number: int) -> TrainedRound:
        """An unsettled round."""
        arrays, message = self._load(self._file("round", number), "the round's rows are lost, if they were sent")
        return TrainedRound(arrays, message["loss"], message["triples"])

    def keep_round(self, number: int, trained: TrainedRound) -> None:
        """Store a round that is trained, before it is sent."""
        save_arrays(self._file("round", number), trained.state, loss=trained.loss, triples=trained.triples)
        self._drop_parts()

    def accept(self, number: int, own: Mapping[str, Array], best: int | None) -> None:
        """The coordinator has taken a round: its own rows count from the next version on.

        Args:
            number: Of the round.
            own: The rows that stay here, by table.
            best: The best version so far, None before the first evaluation; the rows that belong to it are kept, or
                those of the round's own version, with which a training ends that is stopped now. Older ones go.
        """
        save_arrays(self._file("own", number), own)
        self._file("round", number).unlink(missing_ok=True)
        taken = self._numbers("own")
        of_best = max((n for n in taken if n < (number if best is None else best)), default=None)
        for old in taken:
            if old < number and old != of_best:
                self._file("own", old).unlink()

    def refuse(self, number: int) -> None:
        """The coordinator has refused a round: it is as if it had not been trained."""
        self._file("round", number).unlink(missing_ok=True)

    def own_before(self, version: int) -> dict[str, Array] | None:
        """The rows that belong to a version; None where no round before it was taken."""
        nearest = max((n for n in self._numbers("own") if n < version), default=None)
        if nearest is None:
            return None
        return self._load(self._file("own", nearest), "the client's own rows begin anew")[0]

    def version(self, number: int) -> dict[str, Array] | None:
        """The model as it was evaluated at this version; None where it has to be put together again."""
        try:
            return load_arrays(self._file("version", number))[0]
        except (FileNotFoundError, Damaged):
            return None

    def keep_version(self, number: int, state: dict[str, Array], best: int | None) -> None:
        """Store the model of a version; all but it and the best one go."""
        save_arrays(self._file("version", number), state)
        for old in self._numbers("version"):
            if old not in (number, best):
                self._file("version", old).unlink()

    def model(self, mode: Mode) -> Path:
        """The folder of a trained model."""
        return self.path / mode

    def results(self) -> list[ClientResult] | None:
        """The client's rows, if it is done with this training."""
        file = self.path / "results.json"
        try:
            return read_results(file)
        except FileNotFoundError:
            return None
        except ValidationError as error:
            raise HomeUnusable(
                f"{file}: is damaged, or of an earlier version; delete it, and the models are measured again"
            ) from error

    def keep_results(self, results: list[ClientResult]) -> None:
        """Store the rows: the client is done."""
        write_results(self.path / "results.json", results)

    def _file(self, kind: str, number: int, part: str = "") -> Path:
        return self.path / f"{kind}-{number}{part}.safetensors"

    def _numbers(self, kind: str) -> list[int]:
        found = (re.fullmatch(rf"{kind}-(\d+)\.safetensors", file.name) for file in self.path.glob(f"{kind}-*"))
        return sorted(int(match[1]) for match in found if match)

    def _drop_parts(self, but: Path | None = None) -> None:
        for file in self.path.glob("round-*.part.safetensors"):
            if file != but:
                file.unlink()

    @staticmethod
    def _load(file: Path, loss: str) -> tuple[dict[str, Array], dict[str, Any]]:
        try:
            return load_arrays(file)
        except Damaged as error:
            raise HomeUnusable(f"{error}; put a backup in its place, or delete it: then {loss}") from error
