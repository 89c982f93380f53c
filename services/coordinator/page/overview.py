"""All that the page shows of one training, read at one moment."""

from dataclasses import dataclass

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from protocol.rounds import RoundView, TrainingSummary
from protocol.trainings import Share
from services.coordinator.page.crew import CrewLine, crew
from services.coordinator.page.outcome import Outcome, outcome
from services.coordinator.page.rounds import RoundLine, first_number, latest_rounds
from services.coordinator.rounds.history import training_summary
from services.coordinator.rounds.views import take
from services.coordinator.store import queries
from services.coordinator.store.schema import Round, Training, Update
from services.coordinator.store.store import Store


@dataclass(frozen=True)
class Chosen:
    """A training that somebody looks at.

    Attributes:
        summary: As in `GET /rounds`.
        first: The coordinator's number of its first round.
        rounds: The latest ones, the newest first.
        bytes: Of all its updates.
        outcome: Test metrics, once there are any.
    """

    summary: TrainingSummary
    first: int
    rounds: list[RoundLine]
    bytes: int
    outcome: Outcome | None

    @property
    def best_after(self) -> int | None:
        """The round, within the training, that made its best version; None where no version was evaluated."""
        version = self.summary.best_version
        return None if version is None or self.summary.best_mrr is None else version - self.first

    @property
    def paused(self) -> str | None:
        """Why it is paused, with the number that the open round has within the training."""
        done, reason = self.summary.rounds_done, self.summary.paused
        return reason and reason.replace(f"round {self.first + done} ", f"round {done + 1} ", 1)


@dataclass(frozen=True)
class Overview:
    """What the page shows.

    Attributes:
        view: The present round, as an operator sees it.
        trainings: All of them, the newest first.
        chosen: The one that is looked at; None before the first.
        other: One to compare it with.
        crew: Who takes or took part in it, and for the latest training all members.
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

    @property
    def concluded(self) -> int:
        """How many clients have reported what came of the training."""
        return sum(each.doing == "concluded" for each in self.crew)

    @property
    def to_conclude(self) -> int:
        """How many clients are to report that, or have; 0 before a training's end, and for a past one."""
        if not self.current or self.view.phase != "finished":
            return 0
        return sum(each.doing in ("concluding", "concluded", "unheard") for each in self.crew)


def overview(store: Store, training: str | None = None, other: str | None = None) -> Overview:
    """The page's content for a training, the latest unless named, beside another one if named.

    Raises:
        NotFound: There is no such training.
    """
    with store.database.read() as session:
        snapshot = take(session)
        chosen = queries.latest_training(session) if training is None else queries.named_training(session, training)
        compared = None if other is None else queries.named_training(session, other)
        share: Share = "entities" if chosen is None else chosen.fixed().share
        trainings = session.scalars(select(Training).order_by(Training.ordinal.desc())).all()
        summaries = {each.id: training_summary(session, each) for each in trainings}
        return Overview(
            view=snapshot.common,
            trainings=list(summaries.values()),
            chosen=_chosen(session, chosen, summaries[chosen.id]) if chosen else None,
            other=_chosen(session, compared, summaries[compared.id]) if compared else None,
            crew=crew(session, chosen, snapshot, store.clock(), store.overlap.of_able(session, share)),
        )


def _chosen(session: Session, training: Training, summary: TrainingSummary) -> Chosen:
    sizes = select(func.sum(Update.size)).join(Round, Round.number == Update.round)
    first = first_number(session, training)
    return Chosen(
        summary=summary,
        first=first,
        rounds=latest_rounds(session, training, first),
        bytes=session.execute(sizes.where(Round.training == training.id)).scalar_one() or 0,
        outcome=outcome(session, training),
    )
