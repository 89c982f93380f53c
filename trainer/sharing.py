"""What of a model goes to the coordinator and what stays: FedE shares entity rows, FedR (Zhang et al., 2022) relations.

On the wire a relation has one row: its plain vector, and behind it that of its reciprocal relation where the
interaction has one.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from protocol.trainings import Share, TrainingSettings
from trainer.graph import Graph, Triples
from trainer.interactions import Interaction
from trainer.local import fresh_entities, fresh_relations
from trainer.model import Array
from trainer.seeds import seed_of


class NotShared(Exception):
    """A training shares more than its client agreed to; the message says what, and the way out."""


def require_told(settings: TrainingSettings, told: Share) -> None:
    """Refuse a training that shares rows whose keys the client has told nobody.

    Raises:
        NotShared: It does.
    """
    if told not in ("both", settings.share):
        wanted = "entities and relations" if settings.share == "both" else settings.share
        raise NotShared(
            f"the training shares {wanted}, and this client joined to share {told} only; where you agree to it, join "
            f"with --share {settings.share} before the next training is started"
        )


def relation_columns(interaction: Interaction, dim: int) -> int:
    """Columns of a relation's row on the wire, for entity rows of `dim` columns."""
    return interaction.relation_width(dim) * (2 if interaction.reciprocal else 1)


def own_tables(share: Share) -> tuple[str, ...]:
    """Which of `entities` and `relations` stay at the client."""
    return {"entities": ("relations",), "relations": ("entities",), "both": ()}[share]


def own_rows(state: Mapping[str, Array], settings: TrainingSettings) -> dict[str, Array]:
    """The part of a model's state that stays at the client."""
    return {name: state[name] for name in own_tables(settings.share)}


def fresh_rows(graph: Graph, interaction: Interaction, settings: TrainingSettings, name: str) -> dict[str, Array]:
    """The rows that stay at the client called `name`, as they are before its first round."""
    make = {"entities": fresh_entities, "relations": fresh_relations}
    rows = {}
    for table in own_tables(settings.share):
        generator = torch.Generator().manual_seed(seed_of(settings.seed, name, table))
        rows[table] = make[table](graph, interaction, settings, generator)
    return rows


def to_wire(
    state: Mapping[str, Array], train: Triples, interaction: Interaction, settings: TrainingSettings
) -> dict[str, NDArray[Any]]:
    """The tensors of an update, as `protocol.trainings.update_tensors` has them."""
    own = own_tables(settings.share)
    shared: dict[str, NDArray[Any]] = {name: array for name, array in state.items() if name not in own}
    if "relations" in shared and interaction.reciprocal:
        shared["relations"] = np.concatenate(np.split(state["relations"], 2), axis=1)
    if settings.aggregation.strategy == "frequency":
        shared["frequencies"] = frequencies(train, len(state["entities"]))
    return shared


def from_wire(shared: Mapping[str, Array], interaction: Interaction) -> dict[str, Array]:
    """The shared part of a model's state, of what `protocol.trainings.model_tensors` lists."""
    state = dict(shared)
    if "relations" in state and interaction.reciprocal:
        state["relations"] = np.concatenate(np.split(state["relations"], 2, axis=1))
    return state


def frequencies(train: Triples, entities: int) -> NDArray[np.int32]:
    """In how many of the triples each entity stands, int32 [entities]; one with itself counts once."""
    head, _, tail = train.T
    ends = np.concatenate([head, tail[head != tail]])
    return np.bincount(ends, minlength=entities).astype(np.int32)
