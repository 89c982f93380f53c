"""Trainings and rounds as history."""

from collections import defaultdict
from collections.abc import Sequence

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from protocol.problems import NotFound
from protocol.rounds import Evaluation, MeanEvaluation, Rounds, RoundSummary, TrainingSummary
from services.coordinator.rounds.means import mean_evaluation
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
        trainings = select(Training).order_by(Training.ordinal.desc())
        rounds = select(Round).order_by(Round.number.desc()).limit(limit + 1)
        if training is not None:
            trainings, rounds = trainings.where(Training.id == training), rounds.where(Round.training == training)
        if before is not None:
            rounds = rounds.where(Round.number < before)
        found = session.scalars(trainings).all()
        if training is not None and not found:
            raise NotFound(f"there is no training {training!r}; GET /rounds lists them")
        page = session.scalars(rounds).all()
        return Rounds(
            trainings=[training_summary(session, each) for each in found],
            rounds=[_round_summary(session, each) for each in page[:limit]],
            next_before=page[limit - 1].number if len(page) > limit else None,
        )


def training_summary(session: Session, training: Training) -> TrainingSummary:
    """A training as history."""
    return TrainingSummary(
        training=training.id,
        phase=phase_of(training, queries.last_round(session, training.id)),
        started=moment(training.started),
        finished=moment(training.finished),
        paused=training.pause_reason,
        rounds_done=training.rounds_done,
        best_version=training.best_version,
        best_mrr=training.best_mrr,
        settings=training.fixed(),
    )


def _round_summary(session: Session, each: Round) -> RoundSummary:
    updates = queries.updates(session, each.number)
    triples = sum(update.triples for update in updates)
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
        loss=sum(update.triples * update.loss for update in updates) / triples if triples else None,
        evaluations=_mean_evaluations(session, each.number),
    )


def _mean_evaluations(session: Session, number: int) -> Sequence[MeanEvaluation]:
    groups: dict[tuple[str, str], list[Evaluation]] = defaultdict(list)
    for row in session.scalars(select(EvaluationRow).where(EvaluationRow.round == number)):
        groups[row.mode, row.split].append(Evaluation.model_validate_json(row.content))
    return [mean_evaluation(groups[key]) for key in sorted(groups)]
