"""What commands are given, turned into what they work with: graphs, secrets, settings, scorers and saved models."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from protocol.keys import MIN_KEY_BYTES
from protocol.presets import PresetName, preset_of
from protocol.trainings import InteractionName, LocalSettings, TrainingSettings
from trainer.clients.retries import GIVE_UP_AFTER
from trainer.clients.service import Service
from trainer.dataset import read_dataset
from trainer.devices import usable_device
from trainer.formats.table import Columns
from trainer.graph import Graph
from trainer.output import print_line
from trainer.presets import llama_changes, training_settings
from trainer.remote_model import RemoteModel
from trainer.reports import Report
from trainer.saved import Card, SavedModel, read_model


class UsageError(Exception):
    """The arguments do not fit together; the message says which would."""


@dataclass(frozen=True)
class ScorerAt:
    """Where the scorer is, and the file of its key, where they were given."""

    url: str | None = None
    key_file: Path | None = None


@contextmanager
def progress(console: Console) -> Iterator[tuple[Report, Report]]:
    """Two reports: the first prints lines that stay; the second is a status line, shown on terminals alone.

    A line that repeats the one before it is left out: who waits for long need not be told so again and again.
    """
    said = ""

    def say(text: str) -> None:
        nonlocal said
        if text != said:
            print_line(console, text)
        said = text

    with console.status("starting") as status:

        def now(text: str) -> None:
            status.update(Text(text))

        yield say, now


def graph_of(source: str, say: Report, columns: Columns | None = None) -> Graph:
    """The graph that `read_dataset` finds, with its sizes told.

    Raises:
        DataError: It cannot be read.
    """
    graph = read_dataset(source, columns)
    sizes = ", ".join(f"{len(triples)} {split}" for split, triples in graph.triples.items() if len(triples))
    text = f"{source}: {len(graph.entities)} entities, {len(graph.relations)} relations; {sizes} triples"
    if left_out := sum(graph.left_out.values()):
        text += f"; {left_out} name an entity or relation that training lacks and are left out"
    if graph.repeated:
        text += f"; {graph.repeated} lines repeat others and count once"
    if graph.in_training:
        text += f"; {graph.in_training} of valid and test are in training too, where any model finds them"
    say(text)
    return graph


@dataclass(frozen=True)
class WantedTraining:
    """What a user wants of a training, checked as far as that goes without its scorer.

    Attributes:
        interaction: Its name.
        local: How clients train.
        training: Other fields of `TrainingSettings`.
    """

    interaction: InteractionName
    local: LocalSettings
    training: dict[str, Any]

    def settings(self, scorer: RemoteModel | None) -> TrainingSettings:
        """The settings, fixed to the scorer where there is one.

        Raises:
            pydantic.ValidationError: A value is out of bounds.
            UsageError: The scorer's model has no such layer.
        """
        layer = self.local.layer
        if scorer and isinstance(layer, int) and layer > scorer.info.layers:
            raise UsageError(f"layer: {layer} is more than the {scorer.info.layers} of the scorer's model")
        identity = scorer.identity(self.local) if scorer else None
        return training_settings(self.interaction, scorer, identity, local=self.local, **self.training)


def wanted_training(
    interaction: InteractionName, changes: dict[str, Any], local: dict[str, Any], preset: PresetName = "default"
) -> WantedTraining:
    """The interaction's preset with what the user gave; None stands for what was not given.

    Raises:
        pydantic.ValidationError: A value of `local` is out of bounds.
        UsageError: The interaction has no such preset.
    """
    given = {name: value for name, value in local.items() if value is not None}
    try:
        base = preset_of(preset, interaction)
    except ValueError as error:
        raise UsageError(str(error)) from error
    fitted = llama_changes(given) if interaction == "llama" else {}
    changed = LocalSettings.model_validate(base.local.model_dump() | fitted | given)
    rest = base.training | {name: value for name, value in changes.items() if value is not None}
    return WantedTraining(interaction, changed, rest)


@contextmanager
def scorer_for(
    interaction: InteractionName,
    at: ScorerAt,
    say: Report,
    wanted: TrainingSettings | None = None,
    give_up_after: float = GIVE_UP_AFTER,
) -> Iterator[RemoteModel | None]:
    """The scorer for `llama`, as the wanted training is fixed to it; nothing for other interactions.

    A call of it fails after `give_up_after` seconds without an answer.

    Raises:
        UsageError: A scorer is needed, and no address was given, or its key cannot be read.
        WrongScorer: It is not the one that is wanted.
    """
    if interaction != "llama":
        yield None
        return
    if at.url is None:
        raise UsageError("the interaction `llama` needs a scorer: give its address as --scorer")
    key = secret_in(at.key_file) if at.key_file else None
    with Service("scorer", at.url, key, say, give_up_after) as service:
        scorer = RemoteModel(service)
        if wanted is not None and wanted.scorer is not None:
            scorer.require(wanted.scorer, wanted.local)
        yield scorer


@contextmanager
def saved_model(folder: Path, scorer: ScorerAt, say: Report, now: Report, device: str) -> Iterator[SavedModel]:
    """A saved model, with its scorer where it or a part of it needs one, asked as it was in training.

    Raises:
        DeviceMissing: There is no such device.
        ModelMissing: The folder holds none.
        UsageError: A scorer is needed, and no address was given.
        WrongScorer: The scorer is not the one that the model was trained with.
    """
    with ExitStack() as stack:

        def frozen_of(card: Card) -> RemoteModel | None:
            return stack.enter_context(scorer_for(card.settings.interaction, scorer, say, card.settings))

        yield read_model(folder, frozen_of, usable_device(device), now)


def shared_key_in(path: Path) -> bytes:
    """The key that the clients share, in a file.

    Raises:
        UsageError: The file cannot be read, is empty, or holds too short a key.
    """
    key = secret_in(path).encode()
    if len(key) < MIN_KEY_BYTES:
        raise UsageError(f"{path}: the clients' shared key must have at least {MIN_KEY_BYTES} bytes")
    return key


def secret_in(path: Path) -> str:
    """The secret in a file, without white space around it.

    Raises:
        UsageError: The file cannot be read or is empty.
    """
    try:
        secret = path.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise UsageError(f"{path}: the secret in it cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: holds no secret, which would be text") from error
    if not secret:
        raise UsageError(f"{path}: is empty; it should hold a secret")
    return secret
