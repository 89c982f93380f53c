"""Small questions to the database that several modules ask, inside the session that they are in."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from protocol.federation import Evaluation
from services.coordinator.schema import Client, Counter, Entity, EvaluationRow, Round, Selection, Training, Update


def event(session: Session) -> int:
    """The event counter."""
    return session.execute(select(Counter.event)).scalar_one()


def tell(session: Session) -> None:
    """Count an event: something that somebody can see changes with this transaction."""
    session.execute(update(Counter).values(event=Counter.event + 1))


def latest_training(session: Session) -> Training | None:
    """The training that runs, or else the last one that ran."""
    return session.scalars(select(Training).order_by(Training.ordinal.desc()).limit(1)).first()


def training_by_id(session: Session, training: str) -> Training | None:
    """The training with this id."""
    return session.scalars(select(Training).where(Training.id == training)).first()


def last_round(session: Session, training: str | None = None) -> Round | None:
    """The round with the highest number, of one training or of all."""
    query = select(Round).order_by(Round.number.desc()).limit(1)
    return session.scalars(query if training is None else query.where(Round.training == training)).first()


def last_number(session: Session) -> int | None:
    """The highest round number so far; None before the first."""
    return session.execute(select(func.max(Round.number))).scalar_one()


def client_ids(session: Session) -> Sequence[str]:
    """The members, sorted."""
    return session.scalars(select(Client.id).where(Client.removed.is_(None)).order_by(Client.id)).all()


def client_count(session: Session) -> int:
    """How many members there are."""
    return session.execute(select(func.count()).select_from(Client).where(Client.removed.is_(None))).scalar_one()


def entity_count(session: Session) -> int:
    """How many entities are known, which is the number of the next row."""
    return session.execute(select(func.count()).select_from(Entity)).scalar_one()


def entity_keys(session: Session, start: int, stop: int) -> Sequence[bytes]:
    """The keys of the global rows from `start` to before `stop`, in order."""
    return session.scalars(select(Entity.key).where(Entity.row >= start, Entity.row < stop).order_by(Entity.row)).all()


def client_rows(session: Session, client: str) -> NDArray[np.int64]:
    """The global rows of a client's entities, int64 [entities], in the client's own order."""
    return np.frombuffer(session.execute(select(Client.rows).where(Client.id == client)).scalar_one(), "<i8")


def selected(session: Session, round: int, phase: str) -> Sequence[str]:
    """The members that are to act in a phase of a round, sorted."""
    query = select(Selection.client).where(Selection.round == round, Selection.phase == phase)
    members = query.join(Client, Client.id == Selection.client).where(Client.removed.is_(None))
    return session.scalars(members.order_by(Selection.client)).all()


def updates(session: Session, round: int) -> Sequence[Update]:
    """The accepted updates of a round, in sorted order of client ids."""
    return session.scalars(select(Update).where(Update.round == round).order_by(Update.client)).all()


def federation_valid(session: Session, round: int) -> dict[str, Evaluation]:
    """What decides on the version of a round: its clients' metrics on their validation triples, by client id."""
    rows = session.scalars(
        select(EvaluationRow).where(
            EvaluationRow.round == round, EvaluationRow.mode == "federation", EvaluationRow.split == "valid"
        )
    )
    return {row.client: Evaluation.model_validate_json(row.content) for row in rows}
