"""Reads, inside one transaction, what the current training needs to be done next.

`rounds` does it, after asking again inside the transaction that does it.
"""

from dataclasses import dataclass
from enum import Enum

from sqlalchemy import select
from sqlalchemy.orm import Session

from services.coordinator import queries
from services.coordinator.lifecycle import Decision, close_decision
from services.coordinator.schema import Client, Round, Training


class Todo(Enum):
    """What the current training needs."""

    OPEN = "open its first round"
    FREEZE = "declare the round's updates complete"
    AGGREGATE = "make the next version of the frozen updates, and open the next round"
    SETTLE = "decide on the evaluated version"
    RENEW = "go on with the same phase and a new deadline"


@dataclass(frozen=True)
class Situation:
    """What is to be done, and to what.

    Attributes:
        round: Number of the training's current round; None for `Todo.OPEN`.
    """

    todo: Todo
    training: int
    round: int | None


def situation(session: Session, now: float) -> Situation | None:
    """What is to be done; None where nothing is."""
    training = queries.latest_training(session)
    if training is None or training.finished is not None:
        return None
    current = queries.last_round(session, training.id)
    if current is None:
        enough = queries.client_count(session) >= training.fixed().clients
        return Situation(Todo.OPEN, training.ordinal, None) if enough else None
    todo = _todo(session, training, current, now)
    return todo and Situation(todo, training.ordinal, current.number)


def _todo(session: Session, training: Training, current: Round, now: float) -> Todo | None:
    if current.frozen_entities is not None:
        return Todo.AGGREGATE
    evaluating = current.phase == "evaluating"
    if evaluating:
        expected, answered = _validating(session, current), list(queries.federation_valid(session, current.number))
    else:
        expected = list(queries.selected(session, current.number, "training"))
        answered = [update.client for update in queries.updates(session, current.number)]
        if not expected and not answered:
            # All that were drawn have been removed: others are drawn at once, as soon as there are any.
            return Todo.RENEW if queries.client_count(session) else None
    quorum = training.fixed().quorum
    decision = close_decision(expected, answered, quorum=quorum, deadline=current.deadline, now=now)
    close = Todo.SETTLE if evaluating else Todo.FREEZE
    return {Decision.WAIT: None, Decision.RENEW: Todo.RENEW, Decision.CLOSE: close}[decision]


def _validating(session: Session, current: Round) -> list[str]:
    """The selected clients that hold validation triples: the others have nothing to report."""
    selected = set(queries.selected(session, current.number, "evaluating"))
    return [client for client in session.scalars(select(Client.id).where(Client.valid > 0)) if client in selected]
