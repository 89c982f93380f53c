"""What of a model goes to the coordinator and what stays: FedE shares entity rows, FedR (Zhang et al., 2022) relations.

Dense tensors are shared as well, but for those that the training leaves to each client, as a local adapter.

On the wire a relation has one row: its plain vector, and behind it that of its reciprocal relation where the
interaction has one.
"""

from collections.abc import Mapping
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray

from protocol.trainings import DENSE_PREFIX, Dense, LocalSettings, Share, TrainingSettings
from trainer.graph import Graph, Triples
from trainer.interactions import Interaction
from trainer.interactions.llama_adapter import PREFIX as ADAPTER_PREFIX
from trainer.local import fresh_dense, fresh_entities, fresh_relations
from trainer.model import Array
from trainer.seeds import seed_of


class NotShared(Exception):
    """A training shares more than its client agreed to; the message says what, and the way out."""


TextsConsent = Literal["none", "names", "descriptions"]
"""The most that a client says of its rows in words, from nothing to all."""


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


def require_texts(settings: TrainingSettings, agreed: TextsConsent) -> None:
    """Refuse a training that tells scorers more in words than the client agreed to. Numbers tell nothing.

    Raises:
        NotShared: It does.
    """
    wanted, order = settings.local.texts, get_args(TextsConsent)
    if settings.interaction == "llama" and wanted != "anonymised" and order.index(wanted) > order.index(agreed):
        raise NotShared(
            f"the training sends the scorer {wanted}, and this client agreed to {agreed}; where you agree to that and "
            f"trust the scorer that you named, join with --texts {wanted}"
        )


def shared_dense(interaction: Interaction, dim: int, local: LocalSettings) -> dict[str, Dense]:
    """The dense tensors that all clients share, for entity rows of `dim` columns."""
    dense = interaction.dense(dim, local)
    return {name: d for name, d in dense.items() if local.adapter == "shared" or not name.startswith(ADAPTER_PREFIX)}


def relation_columns(interaction: Interaction, dim: int) -> int:
    """Columns of a relation's row on the wire, for entity rows of `dim` columns."""
    return interaction.relation_width(dim) * (2 if interaction.reciprocal else 1)


def own_rows(state: Mapping[str, Array], settings: TrainingSettings) -> dict[str, Array]:
    """The part of a model's state that stays at the client."""
    shared = {DENSE_PREFIX + name for name in settings.dense}
    shared |= {"entities": {"entities"}, "relations": {"relations"}, "both": {"entities", "relations"}}[settings.share]
    return {name: array for name, array in state.items() if name not in shared}


def fresh_rows(graph: Graph, interaction: Interaction, settings: TrainingSettings, name: str) -> dict[str, Array]:
    """The rows that stay at the client called `name`, and its own dense tensors, as they are before its first round."""

    def generator(part: str) -> torch.Generator:
        return torch.Generator().manual_seed(seed_of(settings.seed, name, part))

    rows = {}
    if settings.share == "entities":
        rows["relations"] = fresh_relations(graph, interaction, settings, generator("relations"))
    if settings.share == "relations":
        rows["entities"] = fresh_entities(graph, interaction, settings, generator("entities"))
    for tensor, dense in interaction.dense(settings.dim, settings.local).items():
        if tensor not in settings.dense:
            rows[DENSE_PREFIX + tensor] = fresh_dense(dense, generator(tensor))
    return rows


def to_wire(
    state: Mapping[str, Array], train: Triples, interaction: Interaction, settings: TrainingSettings
) -> dict[str, NDArray[Any]]:
    """The tensors of an update, as `protocol.trainings.update_tensors` has them."""
    own = own_rows(state, settings)
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
