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
from trainer.interactions import FrozenModel, interaction_of
from trainer.model import Array, Model
from trainer.prompting import with_texts
from trainer.ranking import Scorer
from trainer.reports import Report, unheard
from trainer.results import write
from trainer.slot_texts import SlotTexts


class ModelMissing(Exception):
    """A folder holds no usable model; the message names it and the way out."""


class Card(BaseModel):
    """What a saved model is; `texts` are what its scorer is told in words of its entities and relations."""

    mode: Mode
    settings: TrainingSettings
    entities: list[str]
    relations: list[str]
    texts: SlotTexts | None = None
    fused: list[list[float]] | None = None

    @classmethod
    def of(cls, graph: Graph, mode: Mode, settings: TrainingSettings, texts: SlotTexts | None) -> "Card":
        """The card of a model of this graph."""
        return cls(mode=mode, settings=settings, entities=graph.entities, relations=graph.relations, texts=texts)


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
    texts: SlotTexts | None = None,
) -> None:
    """Save one trained model, and what its scorer is told in words."""
    save_arrays(folder / "model.safetensors", state)
    _write_card(folder, Card.of(graph, mode, settings, texts))


def save_fusion(
    folder: Path, graph: Graph, settings: TrainingSettings, fusion: Fusion, texts: SlotTexts | None = None
) -> None:
    """Save fusion weights; `../isolation` and `../federation` hold the models that they combine."""
    card = Card.of(graph, "fusion", settings, texts)
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


def read_model(folder: Path, frozen: FrozenModel | None, device: str = "cpu", now: Report = unheard) -> SavedModel:
    """The model in a folder, its tensors on a device.

    Args:
        folder: Its own.
        frozen: What `llama` asks.
        device: As torch names it.
        now: Told what the frozen model is asked.

    Raises:
        ModelMissing: There is none, or it cannot be read.
    """
    card = read_card(folder)
    if card.fused is not None:
        parts = [read_model(folder.parent / part, frozen, device, now).scorer for part in ("isolation", "federation")]
        return SavedModel(card, Fusion(np.array(card.fused, dtype=np.float32)).scorer(*parts))
    path = folder / "model.safetensors"
    if not path.is_file():
        raise ModelMissing(f"{path}: missing beside model.json")
    try:
        state, _ = load_arrays(path)
    except Damaged as error:
        raise ModelMissing(str(error)) from error
    prompting = with_texts(card.settings, card.texts, folder, now)
    interaction = interaction_of(card.settings.interaction, frozen, card.settings.local, device, prompting)
    relations = len(card.relations) * (2 if interaction.reciprocal else 1)
    if (len(state.get("entities", ())), len(state.get("relations", ()))) != (len(card.entities), relations):
        raise ModelMissing(f"{path}: does not belong to the model.json beside it, whose entities or relations differ")
    return SavedModel(card, Model.of_state(interaction, state).rank_scores)
