"""The form that starts a training: settings to begin with, and the fields that people change most.

The settings that are sent are one JSON object, which the fields edit and which can be edited as a whole.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from protocol.presets import PresetName, preset_of
from protocol.rounds import TrainingSummary
from protocol.trainings import InteractionName, TrainingSettings

ALONE: tuple[InteractionName, ...] = ("transe", "distmult", "complex", "rotate")
"""Interactions whose settings follow from nothing else; `mlp` and `llama` have tensors whose shapes a trainer knows."""
_FIELDS = (
    "clients",
    "fraction",
    "quorum",
    "rounds",
    "evaluate_every",
    "patience",
    "deadline_seconds",
    "dim",
    "local.local_epochs",
    "local.learning_rate",
    "local.batch_size",
    "aggregation.strategy",
    "seed",
)
_LABELS = {
    "dim": "Embedding size",
    "deadline_seconds": "Deadline (seconds)",
    "clients": "Clients to begin with",
    "strategy": "Aggregation",
}
_HELP = {"strategy": "How a round's updates become the next version."}
"""Where what the schema says is too long to stand below a field."""


@dataclass(frozen=True)
class Choice:
    """Settings to begin with, as JSON."""

    label: str
    settings: str


@dataclass(frozen=True)
class Field:
    """A number of the settings, or a word among some.

    Attributes:
        path: Its place in them, as `local.batch_size`.
        label, help: For people.
        words: To choose from; none for a number.
        step: `1` for whole numbers, else `any`.
        least, most: Inclusive; None where there is no bound of that kind.
    """

    path: str
    label: str
    help: str
    words: Sequence[str]
    step: str
    least: float | None
    most: float | None


def choices(trainings: Iterable[TrainingSummary]) -> list[Choice]:
    """Presets of interactions, then the settings of past trainings, each once."""
    made, known = list(_presets()), set()
    for training in trainings:
        settings = training.settings.model_dump_json(indent=2)
        if settings not in known:
            made.append(Choice(f"as training {training.training} ({training.settings.interaction})", settings))
        known.add(settings)
    return made


_PRESETS: dict[PresetName, str] = {"default": "our preset", "fede": "as FedE was published"}


@cache
def _presets() -> tuple[Choice, ...]:
    made = []
    for preset, words in _PRESETS.items():
        for interaction in ALONE:
            chosen = preset_of(preset, interaction)
            settings = TrainingSettings(interaction=interaction, local=chosen.local, clients=3, **chosen.training)
            made.append(Choice(f"{interaction}, {words}", settings.model_dump_json(indent=2)))
    return tuple(made)


@cache
def fields() -> tuple[Field, ...]:
    """The fields, with bounds and words from the schema that the settings are checked with."""
    schema = TrainingSettings.model_json_schema()
    return tuple(_field(path, _property(schema, path)) for path in _FIELDS)


def _property(schema: dict[str, Any], path: str) -> dict[str, Any]:
    found: dict[str, Any] = schema
    for name in path.split("."):
        if "$ref" in found:
            found = schema["$defs"][found["$ref"].rpartition("/")[2]]
        found = found["properties"][name]
    return found


def _field(path: str, found: dict[str, Any]) -> Field:
    name = path.rpartition(".")[2]
    return Field(
        path=path,
        label=_LABELS.get(name, name.replace("_", " ").capitalize()),
        help=_HELP.get(name, found.get("description", "").replace("`", "")),
        words=found.get("enum", ()),
        step="1" if found["type"] == "integer" else "any",
        least=found.get("minimum", found.get("exclusiveMinimum")),
        most=found.get("maximum"),
    )
