"""Trained models on disk: a folder with `model.json` (what it is) and `model.safetensors` (its numbers).

A fused model holds no numbers of its own but its weights; it names the folders of the two models that it combines.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ValidationError

from protocol.rounds import Mode
from protocol.trainings import TrainingSettings
from trainer.files import Damaged, load_arrays, save_arrays
from trainer.fusion import Fusion
from trainer.graph import Graph
from trainer.interactions import Encoder, interaction_of
from trainer.model import Array, Model
from trainer.ranking import Scorer
from trainer.results import write


class ModelMissing(Exception):
    """A folder holds no usable model; the message names it and the way out."""


class Card(BaseModel):
    """What a saved model is."""

    mode: Mode
    settings: TrainingSettings
    entities: list[str]
    relations: list[str]
    names_sent: bool = False
    fused: list[list[float]] | None = None

    @classmethod
    def of(cls, graph: Graph, mode: Mode, settings: TrainingSettings, names_sent: bool) -> "Card":
        """The card of a model of this graph."""
        parts = {"entities": graph.entities, "relations": graph.relations, "names_sent": names_sent}
        return cls(mode=mode, settings=settings, **parts)


@dataclass(frozen=True)
class SavedModel:
    """A model read from a folder, ready to score."""

    card: Card
    scorer: Scorer


def save_model(
    folder: Path,
    graph: Graph,
    mode: Mode,
    settings: TrainingSettings,
    state: dict[str, Array],
    names_sent: bool = False,
) -> None:
    """Save one trained model; `names_sent` says that its scorer was told the names."""
    save_arrays(folder / "model.safetensors", state)
    _write_card(folder, Card.of(graph, mode, settings, names_sent))


def save_fusion(
    folder: Path, graph: Graph, settings: TrainingSettings, fusion: Fusion, names_sent: bool = False
) -> None:
    """Save fusion weights; `../isolation` and `../federation` hold the models that they combine."""
    card = Card.of(graph, "fusion", settings, names_sent)
    _write_card(folder, card.model_copy(update={"fused": fusion.weights.tolist()}))


def _write_card(folder: Path, card: Card) -> None:
    write(folder / "model.json", card.model_dump(mode="json"))


def read_card(folder: Path) -> Card:
    """What the model in a folder is.

    Raises:
        ModelMissing: There is none, or it cannot be read.
    """
    try:
        return Card.model_validate_json((folder / "model.json").read_bytes())
    except FileNotFoundError as error:
        raise ModelMissing(
            f"{folder}: holds no model (model.json is missing); `join` writes isolation, federation and fusion into "
            "a folder of the training under its --home, `train` writes into its --out"
        ) from error
    except ValidationError as error:
        raise ModelMissing(
            f"{folder}/model.json: not the description of a model ({error.error_count()} errors)"
        ) from error


def read_model(folder: Path, encoder: Encoder | None, device: str = "cpu") -> SavedModel:
    """The model in a folder, its tensors on a device.

    Raises:
        ModelMissing: There is none, or it cannot be read.
    """
    card = read_card(folder)
    if card.fused is not None:
        parts = [read_model(folder.parent / part, encoder, device).scorer for part in ("isolation", "federation")]
        return SavedModel(card, Fusion(np.array(card.fused, dtype=np.float32)).scorer(*parts))
    path = folder / "model.safetensors"
    if not path.is_file():
        raise ModelMissing(f"{path}: missing beside model.json")
    try:
        state, _ = load_arrays(path)
    except Damaged as error:
        raise ModelMissing(str(error)) from error
    interaction = interaction_of(card.settings.interaction, encoder, card.settings.local, device)
    relations = len(card.relations) * (2 if interaction.reciprocal else 1)
    if (len(state.get("entities", ())), len(state.get("relations", ()))) != (len(card.entities), relations):
        raise ModelMissing(f"{path}: does not belong to the model.json beside it, whose entities or relations differ")
    return SavedModel(card, Model.of_state(interaction, state).rank_scores)
