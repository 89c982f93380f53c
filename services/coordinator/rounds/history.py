"""Trainings and rounds as history."""

from collections import defaultdict
from collections.abc import Sequence

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from protocol.rounds import Evaluation, MeanEvaluation, Rounds, RoundSummary, TrainingSummary
from services.coordinator.rounds.lifecycle import Standing, is_finished
from services.coordinator.rounds.means import mean_evaluation, mean_loss
from services.coordinator.rounds.times import moment
from services.coordinator.rounds.views import phase_of
from services.coordinator.store import queries
from services.coordinator.store.schema import EvaluationRow, Round, Selection, Training
from services.coordinator.store.store import Store


def rounds_history(store: Store, training: str | None, before: int | None, limit: int) -> Rounds:
    """Trainings (or the one named), and at most `limit` of their rounds numbered below `before`, newest first.

    Raises:
        NotFound: There is no such training.
    """
    with store.database.read() as session:
        if training is not None:
            found: Sequence[Training] = [queries.named_training(session, training)]
        else:
            found = session.scalars(select(Training).order_by(Training.ordinal.desc())).all()
        page = round_summaries(session, training, before, limit + 1)
        return Rounds(
            trainings=[training_summary(session, each) for each in found],
            rounds=page[:limit],
            next_before=page[limit - 1].round if len(page) > limit else None,
        )


def round_summaries(session: Session, training: str | None, before: int | None, limit: int) -> list[RoundSummary]:
    """At most `limit` rounds, of one training or of all, numbered below `before`, newest first."""
    rounds = select(Round).order_by(Round.number.desc()).limit(limit)
    if training is not None:
        rounds = rounds.where(Round.training == training)
    if before is not None:
        rounds = rounds.where(Round.number < before)
    return [_round_summary(session, each) for each in session.scalars(rounds)]


def training_summary(session: Session, training: Training) -> TrainingSummary:
    """A training as history."""
    return TrainingSummary(
        training=training.id,
        phase=phase_of(training, queries.last_round(session, training.id)),
        started=moment(training.started),
        finished=moment(training.finished),
        stopped=is_stopped(training),
        paused=training.pause_reason,
        rounds_done=training.rounds_done,
        best_version=training.best_version,
        best_mrr=training.best_mrr,
        settings=training.fixed(),
    )


def is_stopped(training: Training) -> bool:
    """Whether an operator ended it before it came to its own end."""
    standing = Standing(training.best_version, training.best_mrr, training.stale)
    return training.finished is not None and not is_finished(standing, training.rounds_done, training.fixed())


def _round_summary(session: Session, each: Round) -> RoundSummary:
    updates = queries.updates(session, each.number)
    drawn = select(func.count()).select_from(Selection)
    return RoundSummary(
        round=each.number,
        training=each.training,
        phase="finished" if each.closed is not None else each.phase,
        opened=moment(each.opened),
        closed=moment(each.closed),
        selected=session.execute(
            drawn.where(Selection.round == each.number, Selection.phase == "training")
        ).scalar_one(),
        updates=len(updates),
        bytes=sum(update.size for update in updates),
        loss=mean_loss(updates),
        evaluations=_mean_evaluations(session, each.number),
    )


def _mean_evaluations(session: Session, number: int) -> Sequence[MeanEvaluation]:
    groups: dict[tuple[str, str], list[Evaluation]] = defaultdict(list)
    for row in session.scalars(select(EvaluationRow).where(EvaluationRow.round == number)):
        groups[row.mode, row.split].append(Evaluation.model_validate_json(row.content))
    return [mean_evaluation(groups[key]) for key in sorted(groups)]
