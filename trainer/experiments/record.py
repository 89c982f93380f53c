"""What a finished run leaves in its folder, and `results.jsonl`, which is made of all of them.

A run without `record.json` is not finished, whatever else is in its folder.
"""

import json
import os
import platform
import subprocess
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from protocol.messages import Strict
from protocol.rounds import Metrics, Mode, SideName
from protocol.trainings import TrainingSettings
from trainer.experiments.plan import Kind, Run
from trainer.files import whole
from trainer.graph import DataError
from trainer.results import ClientResult, means

_PACKAGES = ("tripleherd", "torch", "numpy", "transformers", "pykeen")
FILE = "record.json"


class RoundRecord(Strict):
    """One round of a federated training.

    Attributes:
        round: Its number, from 1.
        updates: How many were averaged.
        loss: Their mean training loss, weighted by training triples.
        valid: Weighted mean validation metrics of the version that the round starts from, by side, where it was
            evaluated.
    """

    round: int
    updates: int
    loss: float | None
    valid: dict[SideName, Metrics] | None


class ClientRecord(Strict):
    """One client of a federated training: what it holds, and bytes of tensors on the wire.

    Attributes:
        sent: Bytes of its updates, as the coordinator counted them.
        received: Bytes of the versions that it trained from or evaluated, reckoned by their shapes.
    """

    client: str
    entities: int
    relations: int
    triples: dict[str, int]
    sent: int
    received: int


class Training(Strict):
    """What the coordinator knows of a federated training.

    Attributes:
        rounds: How many there were.
        best_round: After how many the best version came.
        history: Each of them, in order.
        clients: In the order of their names.
    """

    rounds: int
    best_round: int | None
    history: list[RoundRecord]
    clients: list[ClientRecord]


class Machine(Strict):
    """Where a run was done.

    Attributes:
        python: Its version.
        packages: Versions.
        git: Commit of the checkout that the code is in, with `-dirty` where it was changed; null where there is none.
        cores: That may be used.
    """

    python: str
    packages: dict[str, str]
    git: str | None
    cores: int

    @classmethod
    def here(cls) -> "Machine":
        """This one."""
        return cls(python=platform.python_version(), packages=_versions(), git=_commit(), cores=cores())


class Record(Strict):
    """A finished run.

    Attributes:
        begun: How often it was begun: more than once where it was stopped.
        wall_seconds: Since it was begun the last time.
        training: Of federated runs.
        results: Each client's metrics in each mode.
    """

    data: str
    variant: str
    seed: int
    kind: Kind
    digest: str
    device: str
    settings: TrainingSettings
    machine: Machine
    begun: int
    wall_seconds: float
    training: Training | None
    results: list[ClientResult]

    @classmethod
    def of(cls, run: Run, **found: Any) -> "Record":
        """Of a run, with what was found by doing it: the fields that the run itself does not say."""
        said = {
            name: getattr(run, name) for name in ("data", "variant", "seed", "kind", "digest", "device", "settings")
        }
        return cls(**said, **found)


def cores() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _versions() -> dict[str, str]:
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:  # transformers is the scorer's, which may run elsewhere
            continue
    return found


def _commit() -> str | None:
    if _git("ls-files", "--error-unmatch", Path(__file__).name) is None:
        return None  # installed, perhaps below the checkout of something else
    return _git("describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")


def _git(*arguments: str) -> str | None:
    """What git says in the code's folder; None where it refuses, or there is no git."""
    command = ["git", *arguments]
    try:
        done = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, check=False)
    except OSError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def keep(folder: Path, record: Record) -> None:
    """Store a record: the run is finished."""
    with whole(folder / FILE) as out:
        out.write(record.model_dump_json(indent=1).encode() + b"\n")


def read(folder: Path) -> Record | None:
    """The record in a run's folder; None where the run is not finished.

    Raises:
        DataError: It cannot be read as one.
    """
    file = folder / FILE
    try:
        return Record.model_validate_json(file.read_bytes())
    except FileNotFoundError:
        return None
    except ValidationError as error:
        raise DataError(f"{file}: is damaged; delete it, and the run is finished again") from error


def write_lines(path: Path, name: str, found: Iterable[tuple[Run, Record]]) -> None:
    """Write `results.jsonl`: a line for each run and mode, sorted by data set, variant, mode and seed."""
    lines = [_line(name, mode, record) for run, record in found for mode in run.modes]
    lines.sort(key=lambda line: (line["data"], line["variant"], line["mode"], line["seed"]))
    with whole(path) as out:
        out.writelines(json.dumps(line).encode() + b"\n" for line in lines)


def _line(name: str, mode: Mode, record: Record) -> dict[str, Any]:
    results = sorted((r for r in record.results if r.mode == mode), key=lambda r: r.client)
    head = {"experiment": name, "data": record.data, "variant": record.variant, "mode": mode, "seed": record.seed}
    sides = {
        side: {name: mean.model_dump() for name, mean in means(results, side).items()}
        for side in (results[0].sides if results else [])
    }
    clients = [result.model_dump(mode="json", exclude={"interaction", "mode"}) for result in results]
    rest = record.model_dump(mode="json", exclude={"data", "variant", "seed", "results"})
    return head | {"sides": sides, "clients": clients} | rest
