"""Reads, inside one transaction, how the current training stands, and asks `lifecycle` what it needs next.

`advance` does it, after asking again inside the transaction that does it.
"""

from dataclasses import dataclass, replace

from sqlalchemy import select
from sqlalchemy.orm import Session

from services.coordinator.rounds.lifecycle import Facts, Step, next_step
from services.coordinator.store import queries
from services.coordinator.store.schema import Client, Round, Training


@dataclass(frozen=True)
class Situation:
    """What is to be done, and to what.

    Attributes:
        training: Its ordinal.
        round: Number of the training's current round; None for `Step.OPEN`.
        attempt: Of the round's phase.
    """

    step: Step
    training: int
    round: int | None
    attempt: int


def situation(session: Session, now: float) -> Situation | None:
    """What is to be done; None where nothing is."""
    training = queries.latest_training(session)
    if training is None or training.finished is not None or training.paused is not None:
        return None
    current = queries.last_round(session, training.id)
    facts = _facts(session, training, current, now)
    step = next_step(facts, training.fixed())
    number = None if current is None else current.number
    return step and Situation(step, training.ordinal, number, facts.attempt)


def _facts(session: Session, training: Training, current: Round | None, now: float) -> Facts:
    able = queries.able_count(session, training.fixed().share)
    if current is None:
        return Facts("joining", able)
    phase = current.phase
    at = Facts("selecting", able, attempt=current.attempt, deadline=current.deadline, now=now)
    if phase == "evaluating":
        answered = queries.evaluated(session, current.number)
        waiting = set(_validating(session, current)) - answered
        return replace(at, phase="evaluating", waiting=len(waiting), answers=len(answered))
    if phase == "training":
        turnout = queries.turnout(session, current.number)
        return replace(
            at,
            phase="training",
            goal=current.goal,
            undrawn=max(0, able - turnout.drawn),
            waiting=turnout.waiting,
            answers=turnout.answers,
        )
    return at if phase == "selecting" else replace(at, phase="aggregating")


def _validating(session: Session, current: Round) -> list[str]:
    """The drawn clients that hold validation triples: the others have nothing to report."""
    drawn = set(queries.selected(session, current.number, "evaluating"))
    return [client for client in session.scalars(select(Client.id).where(Client.valid > 0)) if client in drawn]
