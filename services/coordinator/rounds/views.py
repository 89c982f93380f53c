"""The round as one caller should see it: what is equal for all is read once an event, what differs are three bits."""

import threading
from dataclasses import dataclass, field, replace

from sqlalchemy import select
from sqlalchemy.orm import Session

from protocol.rounds import Phase, RoundView
from services.coordinator.rounds.times import moment
from services.coordinator.store import queries
from services.coordinator.store.overlap import alone
from services.coordinator.store.schema import Round, Training, Update
from services.coordinator.store.store import Store


@dataclass(frozen=True)
class Snapshot:
    """The current round at one event.

    Attributes:
        common: As somebody sees it who has no part in it.
        selected: Clients that are to act.
        answered: Clients whose update or evaluation for the phase is in.
        alone: Members that share nothing with another one, while a training runs.
    """

    common: RoundView
    selected: frozenset[str] = frozenset()
    answered: frozenset[str] = frozenset()
    alone: frozenset[str] = frozenset()
    _bodies: dict[tuple[bool, bool, bool], bytes] = field(default_factory=dict)

    @property
    def event(self) -> int:
        """The event counter when it was taken."""
        return self.common.event

    def view(self, client: str | None) -> RoundView:
        """As the client sees it; operators (None) are never selected."""
        selected, answered, alone = self._part(client)
        return self.common.model_copy(update={"selected": selected, "answered": answered, "alone": alone})

    def body(self, client: str | None) -> bytes:
        """`view` as JSON. A thousand clients that wait for the same event are answered out of at most eight bodies."""
        part = self._part(client)
        if part not in self._bodies:
            self._bodies[part] = self.view(client).model_dump_json().encode()
        return self._bodies[part]

    def _part(self, client: str | None) -> tuple[bool, bool, bool]:
        return client in self.selected, client in self.answered, client in self.alone


class Views:
    """Takes a snapshot an event, and no more."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._latest: Snapshot | None = None
        self._counted: tuple[int, frozenset[str]] = (0, frozenset())

    def now(self) -> Snapshot:
        """The present snapshot. Blocks: for threads."""
        with self._lock, self._store.database.read() as session:
            if self._latest is None or self._latest.event != queries.event(session):
                snapshot = take(session)
                self._latest = replace(snapshot, alone=self._alone_in(session, snapshot.common))
            return self._latest

    def _alone_in(self, session: Session, common: RoundView) -> frozenset[str]:
        """Who can take part and shares nothing with any member; counted once a round, as it costs."""
        if common.settings is None or common.round is None or common.phase == "finished":
            return frozenset()
        if self._counted[0] != common.round:
            self._counted = common.round, alone(self._store.overlap.of_able(session, common.settings.share))
        return self._counted[1]


def take(session: Session) -> Snapshot:
    """The snapshot of a session's state, without `alone`."""
    event, training = queries.event(session), queries.latest_training(session)
    if training is None:
        members = queries.client_count(session)
        idle = RoundView(
            event=event, training=None, phase="idle", round=None, selected=False, answered=False, clients=members
        )
        return Snapshot(idle)
    current = queries.last_round(session, training.id)
    open_ = current if training.finished is None else None
    common = RoundView(
        event=event,
        training=training.id,
        phase=phase_of(training, current),
        round=current and current.number,
        selected=False,
        answered=False,
        deadline=open_ and moment(open_.deadline),
        paused=training.pause_reason,
        rounds_done=training.rounds_done,
        best_version=training.best_version,
        best_mrr=training.best_mrr,
        clients=queries.able_count(session, training.fixed().share),
        settings=training.fixed(),
    )
    if open_ is None or training.paused is not None:
        return Snapshot(common)
    return Snapshot(common, *_parts(session, open_))


def _parts(session: Session, current: Round) -> tuple[frozenset[str], frozenset[str]]:
    """Who is to act in the current phase, and whose answer is in."""
    if current.phase == "training":
        answered = frozenset(session.scalars(select(Update.client).where(Update.round == current.number)))
    elif current.phase == "evaluating":
        answered = frozenset(queries.evaluated(session, current.number))
    else:
        return frozenset(), frozenset()
    return frozenset(queries.selected(session, current.number, current.phase)), answered


def phase_of(training: Training, current: Round | None) -> Phase:
    """The phase of a training whose last round is `current`."""
    if training.finished is not None:
        return "finished"
    if training.paused is not None:
        return "paused"
    if current is None:
        return "joining"
    phase: Phase = current.phase  # type: ignore[assignment]  # the table holds nothing else
    return phase
