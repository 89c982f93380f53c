"""Joining, being removed, and telling from a token who speaks.

A client's id comes from its join key, so the same key is the same client again. Secrets and join keys are kept as
SHA-256 digests only.
"""

import hashlib
import secrets
from collections.abc import Sequence

import numpy as np
from sqlalchemy import insert, select
from sqlalchemy.orm import Session

from protocol.federation import JoinReply, JoinRequest
from protocol.problems import Conflict, NotFound
from services.coordinator import queries
from services.coordinator.schema import Client, Entity
from services.coordinator.store import Store

_LOOKUP = 10_000  # keys a query, under SQLite's bound on parameters
_ID_DIGITS = 16


def digest(text: str) -> str:
    """SHA-256, hex."""
    return hashlib.sha256(text.encode()).hexdigest()


def join(store: Store, request: JoinRequest) -> JoinReply:
    """Make a member, or give a member a fresh secret; its old one stops.

    Raises:
        Conflict: The join key belongs to a client with other entities, or to one that was removed.
    """
    keys = [bytes.fromhex(key) for key in request.entities]
    entities_digest = hashlib.sha256(b"".join(keys)).hexdigest()
    join_digest = digest(request.join_key)
    secret = secrets.token_urlsafe(32)
    with store.database.write() as session:
        client = session.scalars(select(Client).where(Client.join_digest == join_digest)).first()
        if client is None:
            client = Client(
                id=join_digest[:_ID_DIGITS],
                join_digest=join_digest,
                entities_digest=entities_digest,
                entities=len(keys),
                rows=_global_rows(session, keys),
                joined=store.clock(),
            )
            session.add(client)
        elif client.removed is not None:
            raise Conflict(f"client {client.id} was removed by an operator; join with a new key")
        elif client.entities_digest != entities_digest:
            raise Conflict("this join key belongs to a client with other entities; join a changed graph with a new key")
        client.name = request.name
        client.secret_digest = digest(secret)
        client.train, client.valid, client.test = (request.triples.get(s, 0) for s in ("train", "valid", "test"))
        queries.tell(session)
        return JoinReply(client=client.id, secret=secret)


def remove(store: Store, client: str) -> None:
    """Take a member out: its secret stops, nobody waits for it, and updates that it sent still count.

    Raises:
        NotFound: There is no such member.
    """
    with store.database.write() as session:
        member = session.get(Client, client)
        if member is None or member.removed is not None:
            raise NotFound(f"there is no member {client}")
        member.removed = store.clock()
        queries.tell(session)


def client_with_secret(store: Store, secret_digest: str) -> str | None:
    """The id of the client whose secret has this digest.

    The look-up compares digests, from whose timing nothing can be learned about a secret.
    """
    with store.database.read() as session:
        member = select(Client.id).where(Client.secret_digest == secret_digest, Client.removed.is_(None))
        return session.scalars(member).first()


def _global_rows(session: Session, keys: Sequence[bytes]) -> bytes:
    """The global rows of the keys as little-endian int64; unknown keys get the next free rows, in order."""
    rows: dict[bytes, int] = {}
    for start in range(0, len(keys), _LOOKUP):
        chunk = keys[start : start + _LOOKUP]
        known = session.execute(select(Entity.key, Entity.row).where(Entity.key.in_(chunk)))
        rows.update((key, row) for key, row in known)
    free = queries.entity_count(session)
    new = {key: free + i for i, key in enumerate(k for k in keys if k not in rows)}
    if new:
        session.execute(insert(Entity), [{"key": key, "row": row} for key, row in new.items()])
    rows |= new
    return np.array([rows[key] for key in keys], "<i8").tobytes()
