"""Who has joined a federation, as the page lists them: what each is doing, and what it sent in one training."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from protocol.rounds import Evaluation, Metrics
from services.coordinator.page.rounds import first_number
from services.coordinator.rounds.times import moment
from services.coordinator.rounds.views import Snapshot
from services.coordinator.store import queries
from services.coordinator.store.overlap import alone
from services.coordinator.store.schema import Client, EvaluationRow, Round, Selection, Training, Update

Doing = Literal[
    "left", "removed", "member", "training", "evaluating", "unheard", "sent", "waiting", "concluding", "concluded"
]
SILENT_SECONDS = 40.0
"""A client that waits asks again at least every 25 s: one that was seen so long ago did not just overlook a change."""


@dataclass(frozen=True)
class CrewLine:
    """A client in one training.

    Attributes:
        client: Its id.
        name: As the client calls itself: for people, and not to be trusted with markup.
        doing: In the phase that the training is in; `member` where it is over or has not begun; `unheard` where the
            client is to act and has sent no request since the round opened or the training ended.
        late: It is to act, and half of the time until the deadline has passed, or the deadline was renewed.
        joined, seen: When it joined, and when its latest request came.
        entities, triples: It holds so many entities and training triples.
        shared: Of the rows that the training shares, it holds so many that another member holds too; None for a past
            training, and of who is no member any more or cannot take part in it.
        alone: It shares nothing, beside others that can take part.
        updates, bytes, last_round: Of the training's accepted updates; the round counts within the training.
        loss: Of the latest update.
        metrics: Of the latest version that it evaluated on its validation triples.
    """

    client: str
    name: str
    doing: Doing
    late: bool
    joined: datetime
    seen: datetime
    entities: int
    triples: int
    shared: int | None
    alone: bool
    updates: int
    bytes: int
    last_round: int | None
    loss: float | None
    metrics: Metrics | None


def crew(
    session: Session, training: Training | None, snapshot: Snapshot, now: float, shared: Mapping[str, int]
) -> list[CrewLine]:
    """Who was drawn or sent anything in a training, and all members in the latest one, in the order of joining.

    `shared` is how many rows those that can take part share with other members.
    """
    id_ = training.id if training else ""
    current = queries.last_round(session, id_) if training and snapshot.common.training == id_ else None
    overdue = current is not None and training is not None and _overdue(current, training, now)
    concluded = _concluded(session, training)
    sent, scores = _sent(session, id_), _metrics(session, training)
    first, partakers = first_number(session, training), _partakers(session, id_)
    lonely = alone(shared)
    is_latest = snapshot.common.training in (id_, None)
    lines = []
    for client in session.scalars(select(Client).order_by(Client.joined, Client.id)):
        if client.id not in partakers and not (is_latest and client.removed is None):
            continue
        silent = now - client.seen > SILENT_SECONDS
        doing = _doing(client, training, current, snapshot, client.id in concluded, silent)
        updates, size, last_round, loss = sent.get(client.id, (0, 0, None, None))
        lines.append(
            CrewLine(
                client=client.id,
                name=client.name,
                doing=doing,
                late=overdue and doing in ("training", "evaluating", "unheard"),
                joined=moment(client.joined),
                seen=moment(client.seen),
                entities=client.entities,
                triples=client.train,
                shared=shared.get(client.id) if is_latest else None,
                alone=is_latest and client.id in lonely,
                updates=updates,
                bytes=size,
                last_round=last_round and last_round - first + 1,
                loss=loss,
                metrics=scores.get(client.id),
            )
        )
    return lines


def _doing(
    client: Client, training: Training | None, current: Round | None, snapshot: Snapshot, concluded: bool, silent: bool
) -> Doing:
    if client.removed_by is not None:
        return "left" if client.removed_by == "client" else "removed"
    if training is None or current is None:
        return "member"
    if training.finished is not None:
        return "concluded" if concluded else _ending(client, training, training.finished, silent)
    if client.id not in snapshot.selected or (snapshot.common.phase == "evaluating" and not client.valid):
        return "waiting"  # the latter has nothing to rank
    if client.id in snapshot.answered:
        return "sent"
    if silent and client.seen < current.opened:
        return "unheard"
    return "evaluating" if snapshot.common.phase == "evaluating" else "training"


def _ending(client: Client, training: Training, finished: float, silent: bool) -> Doing:
    """Who came later, was not there while it ran, or has nothing to test, has no part in the end."""
    if client.joined > finished or client.seen < training.started or not client.test:
        return "member"
    return "unheard" if silent and client.seen < finished else "concluding"


def _overdue(current: Round, training: Training, now: float) -> bool:
    half = current.deadline - training.fixed().deadline_seconds / 2
    return training.finished is None and (current.attempt > 1 or now > half)


def _concluded(session: Session, training: Training | None) -> set[str]:
    """Who has reported test metrics of the best version."""
    if training is None or training.best_version is None:
        return set()
    told = EvaluationRow.round == training.best_version, EvaluationRow.split == "test"
    return set(session.scalars(select(EvaluationRow.client).where(*told, EvaluationRow.mode == "federation")))


def _partakers(session: Session, training: str) -> set[str]:
    """Who was drawn to train or to evaluate, or has reported anything."""
    drawn = select(Selection.client).join(Round, Round.number == Selection.round)
    told = select(EvaluationRow.client).join(Round, Round.number == EvaluationRow.round)
    both = drawn.where(Round.training == training, Selection.phase != queries.SILENT).union(
        told.where(Round.training == training)
    )
    return set(session.scalars(both))


def _sent(session: Session, training: str) -> dict[str, tuple[int, int, int, float]]:
    """By client: updates, their bytes, the latest one's round and loss."""
    of = queries.sent().join(Round, Round.number == Update.round)
    sums = of.where(Round.training == training).subquery()
    latest = (Update.client == sums.c.client) & (Update.round == sums.c.last_round)
    rows = select(sums, Update.loss).join(Update, latest)
    return {client: (updates, size, last, loss) for client, updates, size, last, loss in session.execute(rows)}


def _metrics(session: Session, training: Training | None) -> dict[str, Metrics]:
    """By client: its metrics of the latest version it evaluated on validation triples."""
    if training is None:
        return {}
    latest = (
        select(EvaluationRow.client, func.max(EvaluationRow.round).label("last"))
        .join(Round, Round.number == EvaluationRow.round)
        .where(Round.training == training.id, *queries.DECIDES)
        .group_by(EvaluationRow.client)
        .subquery()
    )
    rows = (
        select(EvaluationRow.client, EvaluationRow.content)
        .join(latest, (latest.c.client == EvaluationRow.client) & (latest.c.last == EvaluationRow.round))
        .where(*queries.DECIDES)
    )
    side = training.fixed().local.sides
    return {client: Evaluation.model_validate_json(content).sides[side] for client, content in session.execute(rows)}
