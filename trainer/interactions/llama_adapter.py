"""The adapter: what turns rows of `dim` columns into vectors of the model's hidden size, and its states back.

It is linear, and each part of it may be absent: then a row is the vector, and a state is the query vector.
"""

import torch.nn.functional as F
from torch import Tensor

from protocol.trainings import Dense, LocalSettings
from trainer.interactions.base import Tables

PREFIX = "adapter."
"""What the names of its tensors begin with."""


def adapter(dim: int, hidden: int, settings: LocalSettings) -> dict[str, Dense]:
    """Its tensors, at a scale that gives vectors of the size of the model's own embeddings."""
    if settings.adapter == "none":
        return {}
    rows = Dense(shape=[settings.vectors_per_slot * hidden, dim], init=(3 / dim) ** 0.5)
    parts = {"entity": rows, "relation": rows} if settings.vectors else {}
    if settings.readout == "state":
        parts["state"] = Dense(shape=[dim, hidden], init=(3 / hidden) ** 0.5)
    return {PREFIX + name: tensor for name, tensor in parts.items()}


def slot_vectors(tables: Tables, part: str, rows: Tensor, hidden: int) -> Tensor:
    """Vectors [n, k, hidden] that stand for rows [n, dim] of the part, `entity` or `relation`."""
    return _mapped(tables, part, rows).view(len(rows), -1, hidden)


def query_vectors(tables: Tables, states: Tensor) -> Tensor:
    """Query vectors [q, dim] of states [q, hidden]."""
    return _mapped(tables, "state", states)


def _mapped(tables: Tables, part: str, x: Tensor) -> Tensor:
    weight = tables.dense.get(PREFIX + part)
    return x if weight is None else F.linear(x, weight)
