"""Versions of the global model: version n is what round n starts from, and never changes once round n is open.

An entity that joined after a version was made has its initial row in that version.
"""

import numpy as np
from sqlalchemy.orm import Session

from protocol.federation import TrainingSettings
from protocol.problems import NotFound
from protocol.tensors import Array, encode
from services.coordinator import queries
from services.coordinator.aggregation import ClientUpdate, aggregate
from services.coordinator.blobs import update_name
from services.coordinator.initial import dense_tensors, entity_rows
from services.coordinator.schema import Round, Training
from services.coordinator.store import Store


def initial_model(session: Session, settings: TrainingSettings) -> dict[str, Array]:
    """The model that a training starts from: `entities` float32 [entities known, dim] and the dense tensors."""
    empty = np.empty((0, settings.dim), np.float32)
    entities = _grown(session, settings, empty, queries.entity_count(session))
    return {"entities": entities, **dense_tensors(settings)}


def next_model(store: Store, session: Session, training: Training, frozen: Round) -> dict[str, Array]:
    """The model that the updates of a frozen round make of the round's own version."""
    assert frozen.frozen_entities is not None
    previous = store.blobs.read_model(frozen.number)
    previous["entities"] = _grown(session, training.fixed(), previous["entities"], frozen.frozen_entities)
    updates = (
        ClientUpdate(
            rows=queries.client_rows(session, update.client),
            triples=update.triples,
            tensors=store.blobs.read_update(update_name(update.round, update.client, update.digest)),
        )
        for update in queries.updates(session, frozen.number)
    )
    return aggregate(previous, updates)


def client_share(store: Store, client: str, version: int) -> bytes:
    """A client's share of a version: safetensors of its own rows in its own order, and the dense tensors.

    Raises:
        NotFound: There is no such version, or it is no longer kept.
    """
    with store.database.read() as session:
        opened = session.get(Round, version)
        refusal = NotFound(
            f"version {version} is not kept; only the current version and the best of a training are",
            current_round=queries.last_number(session),
        )
        if opened is None:
            raise refusal
        training = queries.training_by_id(session, opened.training)
        assert training is not None
        rows = queries.client_rows(session, client)
        try:
            model = store.blobs.read_model(version)
        except FileNotFoundError:
            raise refusal from None
        entities = _grown(session, training.fixed(), model["entities"], int(rows.max()) + 1)
    return encode(model | {"entities": entities[rows]}, {"training": opened.training, "round": version})


def _grown(session: Session, settings: TrainingSettings, entities: Array, size: int) -> Array:
    """The rows, and the initial rows of the entities behind them up to `size`."""
    if size <= len(entities):
        return entities
    keys = queries.entity_keys(session, len(entities), size)
    new = entity_rows(settings.seed, keys, settings.dim, settings.entity_init)
    return np.concatenate([entities, new])
