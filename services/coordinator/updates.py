"""Taking a client's update: checked, stored under the body's digest, counted once.

The blob is on the disk before the database speaks of it, and the receipt follows the commit: who has a receipt will
be counted, also if the process is killed now. The same body again gets the same receipt; another body never replaces
the first.
"""

import hashlib

import numpy as np
from pydantic import ValidationError
from sqlalchemy.orm import Session

from protocol.federation import UpdateHeader, UpdateReceipt, model_tensors
from protocol.problems import Conflict, Forbidden, InvalidRequest
from protocol.tensors import TensorSpec, decode
from services.coordinator import queries
from services.coordinator.blobs import update_name
from services.coordinator.schema import Client, Round, Selection, Update
from services.coordinator.store import Store

MAX_MAGNITUDE = 1e6
"""Beyond what training gives an embedding, and far below where float32 sums lose all else."""


def accept_update(store: Store, client: str, number: int, body: bytes) -> tuple[UpdateReceipt, bool]:
    """Store a client's update of a round.

    `body` is safetensors of `protocol.federation.model_tensors`, with an `UpdateHeader` as message.

    Returns:
        The receipt, and whether the update is new rather than a repetition.

    Raises:
        Conflict: The round is not the one in training, or another update of the client stands.
        Forbidden: The client was not selected.
        InvalidRequest: A tensor or the message is not as the training fixed it; it is named.
    """
    digest = hashlib.sha256(body).hexdigest()
    with store.database.read() as session:
        if receipt := _receipt(session, client, number, digest):
            return receipt, False
        specs = _admit(session, client, number)
        triples = session.get_one(Client, client).train
    header = _check(body, specs)
    if header.triples != triples:
        message = f"{header.triples}; this client joined with {triples} training triples, which weigh its dense tensors"
        raise InvalidRequest.of("message.triples", message)
    store.blobs.write_update(update_name(number, client, digest), body)
    with store.database.write() as session:
        if receipt := _receipt(session, client, number, digest):
            return receipt, False
        _admit(session, client, number)
        session.add(Update(round=number, client=client, digest=digest, triples=header.triples, loss=header.loss))
        queries.tell(session)
        session.flush()
        receipt = _receipt(session, client, number, digest)
    assert receipt is not None
    return receipt, True


def _receipt(session: Session, client: str, number: int, digest: str) -> UpdateReceipt | None:
    """The receipt of the update that stands, or None before the first.

    Raises:
        Conflict: The one that stands has another digest.
    """
    update = session.get(Update, (number, client))
    if update is None:
        return None
    if update.digest != digest:
        raise Conflict(
            f"an update of this client for round {number} is stored with other content, and stands",
            current_round=queries.last_number(session),
        )
    training = session.get_one(Round, number).training
    return UpdateReceipt(training=training, round=number, client=client, digest=digest)


def _admit(session: Session, client: str, number: int) -> dict[str, TensorSpec]:
    """The tensors that an update of the client must hold, if the round takes one now.

    Raises:
        Conflict: It takes none.
        Forbidden: It takes none of this client.
    """
    last = queries.last_round(session)
    training = queries.latest_training(session)
    if last is None or training is None or last.number != number or last.phase != "training" or last.closed:
        raise Conflict(f"round {number} is not in training; see GET /round", current_round=last and last.number)
    if last.frozen_entities is not None:
        raise Conflict(f"round {number} is closing; the next one opens at once", current_round=number)
    if session.get(Selection, (number, "training", client)) is None:
        raise Forbidden(f"this client was not drawn for round {number}; wait for one that it is selected for")
    return model_tensors(training.fixed(), session.get_one(Client, client).entities)


def _check(body: bytes, specs: dict[str, TensorSpec]) -> UpdateHeader:
    """The update's message, its tensors checked."""
    tensors, message = decode(body, specs)
    for name, tensor in tensors.items():
        if tensor.size and float(np.abs(tensor).max()) > MAX_MAGNITUDE:
            raise InvalidRequest.of(name, f"holds a value beyond ±{MAX_MAGNITUDE:g}; the training has diverged")
    try:
        return UpdateHeader.model_validate(message)
    except ValidationError as error:
        raise InvalidRequest.from_validation(error, "message") from error
