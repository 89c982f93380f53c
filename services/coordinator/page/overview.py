"""All that the page shows of one training, read at one moment."""

from dataclasses import dataclass

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from protocol.rounds import RoundSummary, RoundView, TrainingSummary
from services.coordinator.page.crew import CrewLine, crew
from services.coordinator.page.outcome import Outcome, outcome
from services.coordinator.rounds.history import round_summaries, training_summary
from services.coordinator.rounds.views import take
from services.coordinator.store import queries
from services.coordinator.store.schema import Round, Training, Update
from services.coordinator.store.store import Store

ROUNDS_SHOWN = 20


@dataclass(frozen=True)
class Chosen:
    """A training that somebody looks at.

    Attributes:
        summary: As in `GET /rounds`.
        rounds: The latest ones, the newest first.
        bytes: Of all its updates.
        outcome: Test metrics, once there are any.
    """

    summary: TrainingSummary
    rounds: list[RoundSummary]
    bytes: int
    outcome: Outcome | None


@dataclass(frozen=True)
class Overview:
    """What the page shows.

    Attributes:
        view: The present round, as an operator sees it.
        trainings: All of them, the newest first.
        chosen: The one that is looked at; None before the first.
        other: One to compare it with.
        crew: Who has joined.
    """

    view: RoundView
    trainings: list[TrainingSummary]
    chosen: Chosen | None
    other: Chosen | None
    crew: list[CrewLine]

    @property
    def current(self) -> bool:
        """Whether the chosen training is the latest one, which may be running."""
        return self.chosen is not None and self.chosen.summary.training == self.view.training


def overview(store: Store, training: str | None = None, other: str | None = None) -> Overview:
    """The page's content for a training, the latest unless named, beside another one if named.

    Raises:
        NotFound: There is no such training.
    """
    with store.database.read() as session:
        snapshot = take(session)
        chosen = queries.latest_training(session) if training is None else queries.named_training(session, training)
        compared = None if other is None else queries.named_training(session, other)
        trainings = session.scalars(select(Training).order_by(Training.ordinal.desc())).all()
        summaries = {each.id: training_summary(session, each) for each in trainings}
        return Overview(
            view=snapshot.common,
            trainings=list(summaries.values()),
            chosen=_chosen(session, chosen, summaries[chosen.id]) if chosen else None,
            other=_chosen(session, compared, summaries[compared.id]) if compared else None,
            crew=crew(session, chosen, snapshot, store.clock()),
        )


def _chosen(session: Session, training: Training, summary: TrainingSummary) -> Chosen:
    sizes = select(func.sum(Update.size)).join(Round, Round.number == Update.round)
    return Chosen(
        summary=summary,
        rounds=round_summaries(session, training.id, None, ROUNDS_SHOWN),
        bytes=session.execute(sizes.where(Round.training == training.id)).scalar_one() or 0,
        outcome=outcome(session, training),
    )
