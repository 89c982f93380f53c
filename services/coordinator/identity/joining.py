"""Members: joining, leaving, being removed, and changing keys.

A client's id is the thumbprint of its first key, so the same key is the same client again.
"""

import hashlib
from collections.abc import Sequence

import numpy as np
from sqlalchemy import insert, select
from sqlalchemy.orm import Session

from protocol.members import JoinReply, JoinRequest, KeyRotation
from protocol.problems import Conflict, Forbidden, InvalidRequest, NotFound
from protocol.signatures import proves, public_bytes, thumbprint
from services.coordinator.store import queries
from services.coordinator.store.queries import Kind
from services.coordinator.store.schema import Client, GlobalRow, Key, Training
from services.coordinator.store.store import Store

AT_ONCE = 10_000
"""Keys a query, under the databases' bounds on parameters, and new rows a transaction, which holds up all others."""


def join(store: Store, request: JoinRequest) -> JoinReply:
    """Make the holder of a key a member, or bring its name, counts and rows up to date.

    Raises:
        Conflict: The client's entities or relations have changed, and rounds of a training run with the former ones.
        Forbidden: The client was removed by an operator, or has replaced this key.
        InvalidRequest: The public key is none.
    """
    public = public_key(request.public_key)
    key_id = thumbprint(public)
    digest = hashlib.sha256("\n".join([*request.entities, "", *request.relations]).encode()).hexdigest()
    with store.database.read() as session:  # before rows are made, which are never taken back
        _returning(session, key_id, digest)
    entity_rows = _global_rows(store, "entities", request.entities)
    relation_rows = _global_rows(store, "relations", request.relations)
    with store.database.write() as session:
        now = store.clock()
        known = _returning(session, key_id, digest)
        client = known or Client(id=key_id, joined=now, keys_digest="")
        if client.keys_digest != digest:
            client.keys_digest, client.entity_rows, client.relation_rows = digest, entity_rows, relation_rows
            client.entities, client.relations = len(request.entities), len(request.relations)
        client.name, client.seen = request.name, now
        client.train, client.valid, client.test = (request.triples.get(s, 0) for s in ("train", "valid", "test"))
        client.removed = client.removed_by = None
        session.add(client)
        session.flush()
        if known is None:
            session.add(Key(id=key_id, client=client.id, public=public, since=now))
        content = request.model_dump_json()
        queries.record(session, now, client.id, "rejoin" if known else "join", digest=_digest(content))
        queries.tell(session)
        return JoinReply(client=client.id)


def _returning(session: Session, key_id: str, digest: str) -> Client | None:
    """The client whose key it is, None for a new one; raises where it may not join, or not with these rows now."""
    key = session.get(Key, key_id)
    if key is None:
        return None
    client = session.get_one(Client, key.client)
    if client.removed_by == "operator":
        raise Forbidden(f"client {client.id} was removed by an operator; a new key needs a new invitation")
    if key.ended is not None:
        raise Forbidden(f"client {client.id} has replaced this key; join with the present one")
    if client.keys_digest != digest and (training := _training_with_rounds(session)) is not None:
        raise Conflict(
            f"what client {client.id} holds, or the shared key that hides it, has changed, and training {training.id} "
            "runs with the former; join again when it has finished, or have an operator stop it, join, and have it "
            "started anew",
            training=training.id,
        )
    return client


def _training_with_rounds(session: Session) -> Training | None:
    """The training that runs, once it has rounds: their updates are in the order of what clients hold."""
    training = queries.latest_training(session)
    if training is None or training.finished is not None or queries.last_round(session, training.id) is None:
        return None
    return training


def leave(store: Store, client: str) -> None:
    """Take a member out at its own wish: nobody waits for it, updates that it sent still count, it may join again.

    Raises:
        NotFound: There is no such member.
    """
    _remove(store, client, "client")


def revoke(store: Store, client: str) -> None:
    """Take a member out for good, by an operator's word: its keys stop, updates that it sent still count.

    Raises:
        NotFound: There is no such client, or it was removed before.
    """
    _remove(store, client, "operator")


def _remove(store: Store, client: str, by: str) -> None:
    with store.database.write() as session:
        member = session.get(Client, client)
        # An operator's word also holds for who has left.
        if member is None or member.removed_by == "operator" or (member.removed_by and by == "client"):
            raise NotFound(f"there is no member {client}; GET /clients lists them")
        member.removed, member.removed_by = store.clock(), by
        who, did = ("operator", "revoke") if by == "operator" else (client, "leave")
        queries.record(session, store.clock(), who, did, subject=client)
        queries.tell(session)


def rotate(store: Store, client: str, rotation: KeyRotation, signed_by: str) -> JoinReply:
    """Let a new key speak for a client; the present one stops. Doing so again changes nothing.

    Raises:
        Unauthorized: The key that signed the request has been replaced since it came: who stole it is too late.
        Conflict: The new key is, or was, some client's already.
        InvalidRequest: The public key is none, or the proof is not its.
    """
    public = public_key(rotation.public_key)
    if not proves(rotation.proof, client, rotation.public_key):
        raise InvalidRequest.of("proof", "not the new key's signature of `protocol.signatures.rotation_words`")
    with store.database.write() as session:
        now = store.clock()
        present = queries.present_key(session, client)
        if present.id == thumbprint(public):
            return JoinReply(client=client)
        queries.check_key(session, client, signed_by)
        if session.get(Key, thumbprint(public)) is not None:
            raise Conflict("this key is, or was, a client's key already; make a new one")
        present.ended = now
        session.add(Key(id=thumbprint(public), client=client, public=public, since=now))
        queries.record(session, now, client, "rotate", digest=_digest(rotation.model_dump_json()))
        queries.tell(session)
        return JoinReply(client=client)


def public_key(text: str) -> bytes:
    """The 32 bytes of a message's `public_key`.

    Raises:
        InvalidRequest: It is none.
    """
    try:
        return public_bytes(text)
    except ValueError as error:
        raise InvalidRequest.of("public_key", "not an Ed25519 public key") from error


def _digest(content: str) -> str:
    return hashlib.sha256(content.encode()).hexdigest()


def _global_rows(store: Store, kind: Kind, keys: Sequence[str]) -> bytes:
    """The global rows of the keys as little-endian int64; unknown keys get the next free rows, in order.

    Rows are never taken back, so they are made in transactions of their own: nobody waits until a million are.
    """
    rows = np.empty(len(keys), "<i8")
    for start in range(0, len(keys), AT_ONCE):
        wanted = [bytes.fromhex(key) for key in keys[start : start + AT_ONCE]]
        with store.database.read() as session:
            known = _known_rows(session, kind, wanted)
        if len(known) < len(wanted):
            with store.database.write() as session:
                known = _known_rows(session, kind, wanted)
                free = queries.row_count(session, kind)
                new = {key: free + i for i, key in enumerate(key for key in wanted if key not in known)}
                if new:  # another join may have made them meanwhile
                    values = [{"kind": kind, "key": key, "row": row} for key, row in new.items()]
                    session.execute(insert(GlobalRow), values)
            known |= new
        rows[start : start + len(wanted)] = [known[key] for key in wanted]
    return rows.tobytes()


def _known_rows(session: Session, kind: Kind, keys: Sequence[bytes]) -> dict[bytes, int]:
    rows = select(GlobalRow.key, GlobalRow.row).where(GlobalRow.kind == kind, GlobalRow.key.in_(keys))
    return {key: row for key, row in session.execute(rows)}
