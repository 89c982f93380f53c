"""How rounds count within a training, and its latest ones as numbers.

The coordinator numbers rounds over its whole life; people count them from 1 in each training. No other training has
a number in between, and the open round is the one after those that are done.
"""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from protocol.rounds import Metrics, RoundSummary
from protocol.trainings import Sides
from services.coordinator.rounds.history import is_stopped, round_summaries
from services.coordinator.store import queries
from services.coordinator.store.schema import Round, Training

SHOWN = 20


@dataclass(frozen=True)
class RoundLine:
    """A round for which clients were drawn.

    Attributes:
        round: Its number within the training, from 1.
        opened: When it was opened.
        updates, bytes: Of its accepted updates.
        selected: So many clients were drawn.
        loss: Mean over all of its updates; None while, or if, not all that were to come have come.
        metrics: Of the model that it made, on validation triples; None where that was not evaluated by all.
    """

    round: int
    opened: datetime
    updates: int
    bytes: int
    selected: int
    loss: float | None
    metrics: Metrics | None


def first_number(session: Session, training: Training | None) -> int:
    """The coordinator's number of a training's first round; 1 where it has none yet."""
    if training is None:
        return 1
    return session.execute(select(func.min(Round.number)).where(Round.training == training.id)).scalar_one() or 1


def is_partly_evaluated(round: Round, training: Training) -> bool:
    """Whether clients are still evaluating the round's version, or were when the training was stopped."""
    return round.phase == "evaluating" and (training.finished is None or is_stopped(training))


def latest_rounds(session: Session, training: Training, first: int) -> list[RoundLine]:
    """The latest rounds of a training whose first one has the number `first`, the newest first."""
    last = queries.last_round(session, training.id)
    partly = last.number if last is not None and is_partly_evaluated(last, training) else None
    newest_first = round_summaries(session, training.id, None, SHOWN + 1)
    side = training.fixed().local.sides
    lines = []
    # What a round made is the version of the round after it.
    for each, after in zip(newest_first, [None, *newest_first], strict=False):
        number = each.round - first + 1
        if each.selected:
            lines.append(
                RoundLine(
                    round=number,
                    opened=each.opened,
                    updates=each.updates,
                    bytes=each.bytes,
                    selected=each.selected,
                    loss=each.loss if number <= training.rounds_done else None,
                    metrics=_metrics(after, side) if after and after.round != partly else None,
                )
            )
    return lines[:SHOWN]


def _metrics(summary: RoundSummary, side: Sides) -> Metrics | None:
    decides = (each for each in summary.evaluations if (each.mode, each.split) == ("federation", "valid"))
    return next((each.sides[side] for each in decides), None)
