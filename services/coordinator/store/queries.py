"""Small questions to the database that several modules ask, inside the session that they are in."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import ColumnElement, Select, func, select, update
from sqlalchemy.orm import Session

from protocol.problems import NotFound, Unauthorized
from protocol.rounds import Evaluation
from protocol.trainings import Share
from services.coordinator.store.schema import (
    AuditRow,
    Client,
    Counter,
    EvaluationRow,
    GlobalRow,
    Key,
    Round,
    Selection,
    Training,
    Update,
)

Kind = Literal["entities", "relations"]
SILENT = "silent"
"""Of selections: members that count in a round with their rows as they were."""


def event(session: Session) -> int:
    """The event counter."""
    return session.execute(select(Counter.event)).scalar_one()


def tell(session: Session) -> None:
    """Count an event: something that somebody can see changes with this transaction."""
    session.execute(update(Counter).values(event=Counter.event + 1))


def record(
    session: Session,
    at: float,
    who: str,
    did: str,
    *,
    round: int | None = None,
    subject: str | None = None,
    digest: str | None = None,
) -> None:
    """Write a line of the audit log, in the write transaction that does what it says."""
    last = session.execute(select(func.max(AuditRow.number))).scalar_one() or 0
    session.add(AuditRow(number=last + 1, at=at, who=who, did=did, round=round, subject=subject, digest=digest))
    session.flush()


def latest_training(session: Session) -> Training | None:
    """The training that runs, or else the last one that ran."""
    return session.scalars(select(Training).order_by(Training.ordinal.desc()).limit(1)).first()


def training_by_id(session: Session, training: str) -> Training | None:
    """The training with this id."""
    return session.scalars(select(Training).where(Training.id == training)).first()


def named_training(session: Session, training: str) -> Training:
    """The training that a caller names.

    Raises:
        NotFound: There is no such training.
    """
    found = training_by_id(session, training)
    if found is None:
        raise NotFound(f"there is no training {training!r}; GET /rounds lists them")
    return found


def last_round(session: Session, training: str | None = None) -> Round | None:
    """The round with the highest number, of one training or of all."""
    query = select(Round).order_by(Round.number.desc()).limit(1)
    return session.scalars(query if training is None else query.where(Round.training == training)).first()


def last_number(session: Session) -> int | None:
    """The highest round number so far; None before the first."""
    return session.execute(select(func.max(Round.number))).scalar_one()


def able(share: Share) -> tuple[ColumnElement[bool], ...]:
    """What a client must fulfil to take part in a training that shares this: it is a member, and holds rows of it."""
    holds = {
        "entities": (Client.entities > 0,),
        "relations": (Client.relations > 0,),
        "both": (Client.entities > 0, Client.relations > 0),
    }
    return (Client.removed.is_(None), *holds[share])


def able_clients(session: Session, share: Share) -> Sequence[str]:
    """The members that can take part in a training that shares this, sorted."""
    return session.scalars(select(Client.id).where(*able(share)).order_by(Client.id)).all()


def able_count(session: Session, share: Share) -> int:
    """How many members can take part in a training that shares this."""
    return session.execute(select(func.count()).select_from(Client).where(*able(share))).scalar_one()


def client_count(session: Session) -> int:
    """How many members there are."""
    return session.execute(select(func.count()).select_from(Client).where(Client.removed.is_(None))).scalar_one()


def row_count(session: Session, kind: Kind) -> int:
    """How many entities or relations are known, which is the number of the next row."""
    return session.execute(select(func.count()).select_from(GlobalRow).where(GlobalRow.kind == kind)).scalar_one()


def row_keys(session: Session, kind: Kind, start: int, stop: int) -> Sequence[bytes]:
    """The keys of the global rows from `start` to before `stop`, in order."""
    rows = select(GlobalRow.key).where(GlobalRow.kind == kind, GlobalRow.row >= start, GlobalRow.row < stop)
    return session.scalars(rows.order_by(GlobalRow.row)).all()


def client_rows(session: Session, client: str, kind: Kind) -> NDArray[np.int64]:
    """The global rows of a client's entities or relations, int64 [n], in the client's own order."""
    column = {"entities": Client.entity_rows, "relations": Client.relation_rows}[kind]
    return np.frombuffer(session.execute(select(column).where(Client.id == client)).scalar_one(), "<i8")


def present_key(session: Session, client: str) -> Key:
    """The key that a client has now."""
    return session.execute(select(Key).where(Key.client == client, Key.ended.is_(None))).scalar_one()


def check_key(session: Session, client: str, key: str) -> None:
    """Raise unless a key is the one that a client has now, in the transaction that does what it signed.

    Raises:
        Unauthorized: It was replaced since the request came.
    """
    if present_key(session, client).id != key:
        raise Unauthorized("this key was replaced by another one; sign with that", key=key)


def selected(session: Session, round: int, phase: str) -> Sequence[str]:
    """The members that are to act in a phase of a round, sorted."""
    query = select(Selection.client).where(Selection.round == round, Selection.phase == phase)
    members = query.join(Client, Client.id == Selection.client).where(Client.removed.is_(None))
    return session.scalars(members.order_by(Selection.client)).all()


def silent(session: Session, round: int) -> Sequence[str]:
    """Who counted in a round without having answered, as it was when its updates were complete."""
    return session.scalars(select(Selection.client).where(Selection.round == round, Selection.phase == SILENT)).all()


class Turnout(NamedTuple):
    """Members drawn to train in a round, those of them without an update, and updates, also of who has left since."""

    drawn: int
    waiting: int
    answers: int


def turnout(session: Session, round: int) -> Turnout:
    """How many were drawn for a round, and answered."""
    drawn = (
        select(func.count(), func.count(Update.client))
        .select_from(Selection)
        .join(Client, Client.id == Selection.client)
        .outerjoin(Update, (Update.round == Selection.round) & (Update.client == Selection.client))
        .where(Selection.round == round, Selection.phase == "training", Client.removed.is_(None))
    )
    members, answered = session.execute(drawn).one()
    answers = session.execute(select(func.count()).select_from(Update).where(Update.round == round)).scalar_one()
    return Turnout(members, members - answered, answers)


def sent() -> Select[str, int, int, int]:
    """Of each client that has sent an update: `client`, `updates`, their `bytes`, and the `last_round` of one."""
    counts = func.count().label("updates"), func.sum(Update.size).label("bytes")
    return select(Update.client, *counts, func.max(Update.round).label("last_round")).group_by(Update.client)


def updates(session: Session, round: int) -> Sequence[Update]:
    """The accepted updates of a round, in sorted order of client ids."""
    return session.scalars(select(Update).where(Update.round == round).order_by(Update.client)).all()


DECIDES = (EvaluationRow.mode == "federation", EvaluationRow.split == "valid")


def federation_valid(session: Session, round: int) -> list[Evaluation]:
    """What decides on the version of a round: its clients' metrics on their validation triples."""
    rows = session.scalars(select(EvaluationRow.content).where(EvaluationRow.round == round, *DECIDES))
    return [Evaluation.model_validate_json(content) for content in rows]


def evaluated(session: Session, round: int) -> set[str]:
    """The clients whose metrics decide on the version of a round."""
    return set(session.scalars(select(EvaluationRow.client).where(EvaluationRow.round == round, *DECIDES)))
