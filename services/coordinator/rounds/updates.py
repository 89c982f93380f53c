"""Taking a client's update: checked, stored under the body's digest, counted once.

The blob is on the disk before the database speaks of it, and the receipt follows the commit: who has a receipt will
be counted, also if the process is killed now. The same body again gets the same receipt; another body never replaces
the first.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError
from sqlalchemy.orm import Session

from protocol.problems import Conflict, Forbidden, InvalidRequest, Unauthorized
from protocol.rounds import UpdateHeader, UpdateReceipt
from protocol.tensor_files import open_tensors
from protocol.tensors import TensorSpec
from protocol.trainings import update_tensors
from services.coordinator.failpoints import failpoint
from services.coordinator.store import queries
from services.coordinator.store.blobs import update_name
from services.coordinator.store.schema import Client, Round, Selection, Update
from services.coordinator.store.store import Store

MAX_MAGNITUDE = 1e6
"""Beyond what training gives an embedding, and far below where float32 sums lose all else."""
HEADER_BYTES = 1 << 20
"""Of an update: names and shapes of a few tensors, and a short message."""


@dataclass(frozen=True)
class Admission:
    """What an update that the round takes from this client must be.

    Attributes:
        specs: Its tensors.
        triples: The client's training triples, which weigh its dense tensors.
        drawn: When the round's clients were drawn, or its deadline was renewed.
    """

    specs: Mapping[str, TensorSpec]
    triples: int
    drawn: float

    @property
    def max_bytes(self) -> int:
        """A longer body cannot be right: the numbers are of known shapes, and the header is bounded."""
        return HEADER_BYTES + sum(spec.nbytes for spec in self.specs.values())


def standing_receipt(store: Store, client: str, number: int, digest: str) -> UpdateReceipt | None:
    """The receipt of the update that stands, for who sends it again; None before the first.

    Raises:
        Conflict: The one that stands has another digest.
    """
    with store.database.read() as session:
        return _receipt(session, client, number, digest)


def admission(store: Store, client: str, number: int) -> Admission:
    """What the client's update must be, if the round takes one now.

    Raises:
        Conflict: It takes none.
        Forbidden: It takes none of this client.
    """
    with store.database.read() as session:
        return _admit(session, client, number)


def accept_update(
    store: Store, client: str, key: str, number: int, admitted: Admission, file: Path, digest: str
) -> tuple[UpdateReceipt, bool]:
    """Store a client's update of a round.

    Args:
        store: Where.
        client: Its id.
        key: With which it signed the request.
        number: Of the round.
        admitted: As `admission` said before the body was read.
        file: The body, a temporary file of the store's blobs: safetensors of `protocol.trainings.update_tensors`, with
            an `UpdateHeader` as message. Taken over.
        digest: The body's SHA-256, hex.

    Returns:
        The receipt, and whether the update is new rather than a repetition.

    Raises:
        Conflict: The round is not the one in training (any more), or another update of the client stands.
        Forbidden: The client was not selected.
        InvalidRequest: A tensor or the message is not as the training fixed it; it is named.
        Unauthorized: The key was replaced while the body came: who stole it is too late.
        OSError: It cannot be kept.
    """
    header = _check(file, admitted)
    size = file.stat().st_size
    failpoint("update.received")
    name = update_name(number, client, digest)
    with store.database.read() as session:  # again: another body may have come while this one did
        if receipt := _receipt(session, client, number, digest):
            return receipt, False
        _admit(session, client, number)
        queries.check_key(session, client, key)
    store.blobs.keep_update(name, file)
    failpoint("update.stored")
    try:
        receipt, new = _commit(store, client, key, number, digest, header, size)
    except (Conflict, Forbidden, Unauthorized):
        store.blobs.drop_update(name)
        raise
    failpoint("update.committed")
    return receipt, new


def _commit(
    store: Store, client: str, key: str, number: int, digest: str, header: UpdateHeader, size: int
) -> tuple[UpdateReceipt, bool]:
    """Let the database speak of an update whose blob stands."""
    with store.database.write() as session:
        if receipt := _receipt(session, client, number, digest):
            return receipt, False
        _admit(session, client, number)
        queries.check_key(session, client, key)
        now = store.clock()
        row = Update(round=number, client=client, digest=digest, size=size, received=now)
        row.triples, row.loss = header.triples, header.loss
        session.add(row)
        queries.record(session, now, client, "update", round=number, digest=digest)
        queries.tell(session)
        session.flush()
        receipt = _receipt(session, client, number, digest)
    assert receipt is not None
    return receipt, True


def _receipt(session: Session, client: str, number: int, digest: str) -> UpdateReceipt | None:
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


def _admit(session: Session, client: str, number: int) -> Admission:
    last = queries.last_round(session)
    training = queries.latest_training(session)
    if last is None or training is None or last.number != number or last.phase != "training" or last.closed:
        raise Conflict(
            f"round {number} takes no update; go on with the round that GET /round tells",
            current_round=last and last.number,
        )
    if session.get(Selection, (number, "training", client)) is None:
        raise Forbidden(f"this client was not drawn for round {number}; wait for one that it is selected for")
    member, settings = session.get_one(Client, client), training.fixed()
    if member.removed_by is not None:
        raise Forbidden(f"client {client} is no member any more")
    specs = update_tensors(settings, member.entities, member.relations)
    return Admission(specs, member.train, last.deadline - settings.deadline_seconds)


def _check(file: Path, admitted: Admission) -> UpdateHeader:
    """The update's message, its tensors checked."""
    with open_tensors(file, admitted.specs) as tensors:
        # A triple whose head is its tail counts its entity once or twice, as one likes.
        tensors.check(MAX_MAGNITUDE, largest=2 * admitted.triples)
        message = tensors.message
    try:
        header = UpdateHeader.model_validate(message)
    except ValidationError as error:
        raise InvalidRequest.from_validation(error, "message") from error
    if header.triples != admitted.triples:
        wanted = f"this client joined with {admitted.triples} training triples, which weigh its dense tensors"
        raise InvalidRequest.of("message.triples", f"{header.triples}; {wanted}")
    return header
