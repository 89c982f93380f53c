"""Trained models on disk: a folder with `model.json` (what it is) and `model.safetensors` (its numbers).

A fused model holds no numbers of its own but its weights, which stand in `model.json` beside the folders of the two
models that it combines, relative to its own: what is moved together stays usable.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import BaseModel, FiniteFloat, TypeAdapter, ValidationError

from protocol.rounds import Mode
from protocol.trainings import TrainingSettings
from trainer.collection import restricted
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
    """What a trained model is; `texts` are what its scorer is told in words of its entities and relations."""

    mode: Mode
    settings: TrainingSettings
    entities: list[str]
    relations: list[str]
    texts: SlotTexts | None = None


Weights = tuple[FiniteFloat, FiniteFloat]


class FusedCard(BaseModel):
    """What a fused model is.

    Attributes:
        parts: Folders of the first and of the second model, relative to its own.
        weights: As `Fusion` has them.
    """

    mode: Literal["fusion"] = "fusion"
    entities: list[str]
    relations: list[str]
    parts: tuple[str, str]
    weights: tuple[Weights, Weights]


_CARD: TypeAdapter[Card | FusedCard] = TypeAdapter(Card | FusedCard)


@dataclass(frozen=True)
class SavedModel:
    """A model read from a folder, ready to score.

    Attributes:
        card: Its own.
        scorer: In the numbering of the card's entities and relations.
        interaction: Of a fused model those of its parts, each once.
        tie_tolerance: That of the training; of a fused model the larger one of its parts.
    """

    card: Card | FusedCard
    scorer: Scorer
    interaction: str
    tie_tolerance: float


FrozenOf = Callable[[Card], FrozenModel | None]
"""What a trained model asks, if it asks anything."""


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
    names = {"entities": graph.entities, "relations": graph.relations}
    _write_card(folder, Card(mode=mode, settings=settings, **names, texts=texts))


def save_fusion(folder: Path, graph: Graph, fusion: Fusion, parts: tuple[Path, Path]) -> None:
    """Save the weights with which the models in two other folders are combined over a graph's names."""
    first, second = (Path(os.path.relpath(part.resolve(), folder.resolve())).as_posix() for part in parts)
    names = {"entities": graph.entities, "relations": graph.relations}
    _write_card(folder, FusedCard(**names, parts=(first, second), weights=fusion.weights.tolist()))


def _write_card(folder: Path, card: Card | FusedCard) -> None:
    write(folder / "model.json", card.model_dump(mode="json"))


def read_card(folder: Path) -> Card | FusedCard:
    """What the model in a folder is.

    Raises:
        ModelMissing: There is none, or it cannot be read.
    """
    try:
        return _CARD.validate_json((folder / "model.json").read_bytes())
    except FileNotFoundError as error:
        raise ModelMissing(
            f"{folder}: holds no model (model.json is missing); `join` writes isolation, federation and fusion into "
            "a folder of the training under its --home, `train` and `fuse` write into their --out"
        ) from error
    except ValidationError as error:
        raise ModelMissing(
            f"{folder}/model.json: not the description of a model ({error.error_count()} errors)"
        ) from error


def read_model(
    folder: Path, frozen_of: FrozenOf = lambda card: None, device: str = "cpu", now: Report = unheard
) -> SavedModel:
    """The model in a folder, its tensors on a device, with what it combines where it is a fused one.

    Args:
        folder: Its own.
        frozen_of: Gives what a part that is `llama` asks.
        device: As torch names it.
        now: Told what the frozen model is asked.

    Raises:
        DataError: A fused model's part lacks one of its entities or relations.
        ModelMissing: There is none, or it cannot be read.
    """
    return _read(folder, frozen_of, device, now, ())


def _read(folder: Path, frozen_of: FrozenOf, device: str, now: Report, inside: tuple[Path, ...]) -> SavedModel:
    if folder.resolve() in inside:
        raise ModelMissing(f"{folder}/model.json: combines itself; fuse its parts again")
    card = read_card(folder)
    if isinstance(card, Card):
        return _read_trained(folder, card, frozen_of(card), device, now)
    inside = (*inside, folder.resolve())
    first, second = (_read(folder / part, frozen_of, device, now, inside) for part in card.parts)
    names = Graph(card.entities, card.relations, {})
    scorers = (restricted(part.scorer, part.card.entities, part.card.relations, names) for part in (first, second))
    fusion = Fusion(np.array(card.weights, dtype=np.float32))
    interactions = dict.fromkeys(f"{first.interaction} + {second.interaction}".split(" + "))
    tolerance = max(first.tie_tolerance, second.tie_tolerance)
    return SavedModel(card, fusion.scorer(*scorers), " + ".join(interactions), tolerance)


def _read_trained(folder: Path, card: Card, frozen: FrozenModel | None, device: str, now: Report) -> SavedModel:
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
    scorer = Model.of_state(interaction, state).rank_scores
    return SavedModel(card, scorer, card.settings.interaction, card.settings.tie_tolerance)
