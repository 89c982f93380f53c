"""The runs of an experiment. A run is what processes do together: a federated training, or one without coordinator."""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from pydantic import ValidationError

from protocol.problems import InvalidRequest
from protocol.rounds import Mode
from protocol.trainings import LONGEST_DEADLINE, TrainingSettings
from trainer.devices import usable_device
from trainer.experiments.data import Clients
from trainer.experiments.schema import Experiment, Variant
from trainer.inputs import UsageError, wanted_training
from trainer.remote_model import RemoteModel

Kind = Literal["federated", "federation", "collection", "isolation"]
"""A `federated` training ends with isolation, federation and fusion; the others give the mode that they are called."""


@dataclass(frozen=True, eq=False)
class Run:
    """One run.

    Attributes:
        data: Name of its data set.
        variant: Name of its variant.
        kind: What runs.
        modes: Those wanted of the modes that it gives.
        settings: The training's, with its seed.
        device: Where the clients' tensors are.
        clients: Their folders.
    """

    data: str
    variant: str
    kind: Kind
    modes: tuple[Mode, ...]
    settings: TrainingSettings
    device: str
    clients: Clients

    @property
    def seed(self) -> int:
        """Of the deal, of the keys and of the training."""
        return self.settings.seed

    @property
    def label(self) -> str:
        """For people."""
        return f"{self.data} {self.variant} seed {self.seed} {self.kind}"

    @cached_property
    def digest(self) -> str:
        """SHA-256 of everything that decides the result: another digest is another run."""
        parts = [self.kind, self.settings.model_dump(mode="json"), self.device, self.clients.digest]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    @property
    def folder(self) -> str:
        """Name of its folder."""
        return f"{self.data}-{self.variant}-seed{self.seed}-{self.kind}-{self.digest[:12]}"

    @property
    def processes(self) -> int:
        """How many work at the same time."""
        return 1 if self.kind == "collection" else len(self.clients.folders)


def plan(experiment: Experiment, data: Mapping[tuple[str, int], Clients], scorer: RemoteModel | None) -> list[Run]:
    """All runs, seed by seed, so that a table with all rows comes early.

    Args:
        experiment: What is wanted.
        data: The clients of each data set with each seed.
        scorer: The scorer, where a variant is `llama`.

    Raises:
        UsageError: A variant's settings do not fit together, its interaction has no such preset, or its scorer no such
            layer.
        DeviceMissing: A variant's device cannot be used.
    """
    variants = {name: experiment.variant(name) for name in experiment.variants}
    for variant in variants.values():
        usable_device(variant.device)
    return [
        Run(of_data, name, kind, modes, settings, variant.device, clients)
        for seed in experiment.seeds
        for of_data, clients in ((each, data[each, seed]) for each in experiment.data)
        for name, variant in variants.items()
        for settings in [_settings(name, variant, seed, len(clients.folders), scorer)]
        for kind, modes in _kinds(experiment.modes)
    ]


def _kinds(wanted: list[Mode]) -> list[tuple[Kind, tuple[Mode, ...]]]:
    federated = "fusion" in wanted or {"isolation", "federation"} <= set(wanted)
    alone: dict[Kind, Mode] = {"isolation": "isolation", "collection": "collection", "federation": "federation"}
    if not federated:
        return [(kind, (mode,)) for kind, mode in alone.items() if mode in wanted]
    chosen: dict[Kind, tuple[Mode, ...]] = {
        "federated": ("isolation", "federation", "fusion"),
        "collection": ("collection",),
    }
    found = {kind: tuple(mode for mode in modes if mode in wanted) for kind, modes in chosen.items()}
    return [(kind, modes) for kind, modes in found.items() if modes]


def _settings(name: str, variant: Variant, seed: int, clients: int, scorer: RemoteModel | None) -> TrainingSettings:
    assert variant.interaction is not None  # the experiment has seen to it
    given = variant.settings()
    local = given.pop("local", {})
    # All that a round asks are waited for, unless the variant says otherwise: who is slow would else decide the result.
    # A client that ends is noticed without a deadline.
    asked = math.ceil(given.get("fraction", 1.0) * clients - 1e-9)  # as the coordinator reckons
    given = {"quorum": asked, "deadline_seconds": LONGEST_DEADLINE} | given | {"seed": seed, "clients": clients}
    asked_of = scorer if variant.interaction == "llama" else None
    try:
        return wanted_training(variant.interaction, given, local, variant.preset).settings(asked_of)
    except ValidationError as error:
        reason = InvalidRequest.from_validation(error).detail.removeprefix("body: ")
        raise UsageError(f"variants.{name}: {reason}") from error
    except UsageError as error:
        raise UsageError(f"variants.{name}: {error}") from error
