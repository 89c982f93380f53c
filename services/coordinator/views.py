"""The round as one caller should see it."""

from sqlalchemy.orm import Session

from protocol.federation import Phase, RoundView
from services.coordinator import queries
from services.coordinator.schema import EvaluationRow, Round, Selection, Training, Update
from services.coordinator.store import Store
from services.coordinator.times import moment


def current_event(store: Store) -> int:
    """The event counter."""
    with store.database.read() as session:
        return queries.event(session)


def round_view(store: Store, client: str | None) -> RoundView:
    """The current round as the client sees it; operators (None) are never selected."""
    with store.database.read() as session:
        event, clients = queries.event(session), queries.client_count(session)
        training = queries.latest_training(session)
        if training is None:
            return RoundView(
                event=event, training=None, phase="idle", round=None, selected=False, answered=False, clients=clients
            )
        current = queries.last_round(session, training.id)
        phase = phase_of(training, current)
        open_ = current if training.finished is None else None
        selected, answered = _part(session, open_, client) if open_ and client else (False, False)
        return RoundView(
            event=event,
            training=training.id,
            phase=phase,
            round=current and current.number,
            selected=selected,
            answered=answered,
            deadline=open_ and moment(open_.deadline),
            rounds_done=training.rounds_done,
            best_version=training.best_version,
            best_mrr=training.best_mrr,
            clients=clients,
            settings=training.fixed(),
        )


def phase_of(training: Training, current: Round | None) -> Phase:
    """The phase of a training whose last round is `current`."""
    if training.finished is not None:
        return "finished"
    if current is None:
        return "joining"
    return "evaluating" if current.phase == "evaluating" else "training"


def _part(session: Session, current: Round, client: str) -> tuple[bool, bool]:
    """Whether the client is to act in the current phase, and whether its answer is in."""
    selected = session.get(Selection, (current.number, current.phase, client)) is not None
    if current.phase == "training":
        return selected, session.get(Update, (current.number, client)) is not None
    return selected, session.get(EvaluationRow, (current.number, client, "federation", "valid")) is not None
