"""Carries out what `lifecycle` decides: opens rounds, draws clients, closes rounds, settles evaluations, pauses.

Every step asks again what is to be done inside the transaction that does it, so a step that another thread or process
took first is not taken twice. Killed anywhere, the step that was not committed is taken again with the same result.
"""

import hashlib
from collections.abc import Callable, Iterable
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.orm import Session

from services.coordinator.aggregation.strategies import STRATEGIES
from services.coordinator.failpoints import failpoint
from services.coordinator.rounds import lifecycle, versions
from services.coordinator.rounds.lifecycle import RoundPhase, Step
from services.coordinator.rounds.means import mean_evaluation
from services.coordinator.rounds.situation import Situation, situation
from services.coordinator.store import queries
from services.coordinator.store.schema import Round, Selection, Training
from services.coordinator.store.store import Store

Change = Callable[[Session, Training, Round, float], None]


def advance(store: Store) -> None:
    """Do what the current training needs, until it needs nothing more for now, or another process is doing it."""
    with store.database.leading() as leading:
        while leading and _step(store):
            pass


def _step(store: Store) -> bool:
    """One step; False where nothing was to be done."""
    now = store.clock()
    with store.database.read() as session:
        found = situation(session, now)
    if found is None:
        return False
    if found.step is Step.OPEN:
        _open_first(store, found, now)
    elif found.step is Step.AGGREGATE:
        _aggregate(store, found, now)
    else:
        _apply(store, found, now, _CHANGES[found.step])
    if found.step in (Step.AGGREGATE, Step.SETTLE):
        prune(store)
    return True


def prune(store: Store) -> None:
    """Delete the blobs that no round needs: all before the current round, but for the best version of a training."""
    with store.database.read() as session:
        last = queries.last_number(session)
        best = {version for version in session.scalars(select(Training.best_version)) if version is not None}
    if last is not None:
        store.blobs.prune(last, best)


def _apply(store: Store, found: Situation, now: float, change: Change) -> None:
    """Make a change to the current round, unless the situation is no longer the one found."""
    with store.database.write() as session:
        if situation(session, now) == found:
            change(session, *_rows(session, found), now)
    if found.step is Step.FREEZE:
        failpoint("round.frozen")
    elif found.step is Step.SETTLE:
        failpoint("training.settled")


def _rows(session: Session, found: Situation) -> tuple[Training, Round]:
    return session.get_one(Training, found.training), session.get_one(Round, found.round)


def _open_first(store: Store, found: Situation, now: float) -> None:
    """Keep the initial version, then open the training's first round with it."""
    with store.database.read() as session:
        number = (queries.last_number(session) or 0) + 1

    def write(session: Session, file: Path) -> None:
        versions.write_initial(session, session.get_one(Training, found.training).fixed(), file)

    digest = _keep(store, number, write)
    with store.database.write() as session:
        if situation(session, now) == found:
            training = session.get_one(Training, found.training)
            _open(session, training, number, "selecting", now, digest)


def _aggregate(store: Store, found: Situation, now: float) -> None:
    """Keep the version that the frozen updates make, then close the round and open the next with that version."""
    assert found.round is not None
    number = found.round + 1
    digest = _keep(
        store, number, lambda session, file: versions.write_next(store, session, *_rows(session, found), file)
    )
    failpoint("model.stored")
    with store.database.write() as session:
        if situation(session, now) == found:
            training, frozen = _rows(session, found)
            frozen.closed = now
            training.rounds_done += 1
            due = lifecycle.is_due(training.rounds_done, training.fixed())
            _open(session, training, number, "evaluating" if due else "selecting", now, digest)
    failpoint("round.opened")


def _keep(store: Store, version: int, write: Callable[[Session, Path], None]) -> str:
    """Have a version written to a temporary file, and keep it; returns its SHA-256, hex."""
    file = store.blobs.temporary()
    try:
        with store.database.read() as session:
            write(session, file)
        with file.open("rb") as content:
            digest = hashlib.file_digest(content, "sha256").hexdigest()
        store.blobs.keep_model(version, file)
    finally:
        file.unlink(missing_ok=True)
    return digest


def _open(session: Session, training: Training, number: int, phase: RoundPhase, now: float, digest: str) -> None:
    """Open a round with the version of its number."""
    opened = Round(number=number, training=training.id, phase=phase, opened=now, deadline=now)
    session.add(opened)
    session.flush()
    queries.record(session, now, "coordinator", "version", round=number, subject=training.id, digest=digest)
    _enter(session, training, opened, phase, now)


def _enter(session: Session, training: Training, current: Round, phase: RoundPhase, now: float) -> None:
    """Begin a phase of a round with a fresh deadline; an evaluation is everybody's."""
    settings = training.fixed()
    current.phase = phase
    current.attempt = 1
    current.deadline = now + settings.deadline_seconds
    if phase == "evaluating":
        _add(session, current, phase, queries.able_clients(session, settings.share))
    queries.tell(session)


def _select(session: Session, training: Training, current: Round, now: float) -> None:
    """Draw the clients that train."""
    settings = training.fixed()
    _enter(session, training, current, "training", now)
    current.goal = lifecycle.goal_size(queries.able_count(session, settings.share), settings)
    _draw(session, training, current, now)


def _draw(session: Session, training: Training, current: Round, now: float) -> None:
    """Draw among those that are not drawn yet."""
    settings = training.fixed()
    able = queries.able_clients(session, settings.share)
    others = set(able) - set(queries.selected(session, current.number, "training"))
    size = lifecycle.draw_size(len(able), settings)
    nth = training.rounds_done + 1  # of the training, so that another one with its seed draws alike
    drawn = lifecycle.select(others, size, seed=settings.seed, round=nth, attempt=current.attempt)
    _add(session, current, "training", drawn)
    queries.tell(session)


def _add(session: Session, current: Round, phase: str, clients: Iterable[str]) -> None:
    session.add_all(Selection(round=current.number, phase=phase, client=client) for client in clients)
    session.flush()


def _renew(session: Session, training: Training, current: Round, now: float) -> None:
    """The deadline passed below the quorum: what was accepted stays, and further clients are drawn to train."""
    current.attempt += 1
    current.deadline = now + training.fixed().deadline_seconds
    if current.phase == "training":
        _draw(session, training, current, now)
    queries.tell(session)


def freeze(session: Session, training: Training, current: Round, now: float) -> None:
    """From here on no update is taken, so that aggregating, however often, sees the same ones."""
    settings = training.fixed()
    if STRATEGIES[settings.aggregation.strategy].silent_count:
        answered = {update.client for update in queries.updates(session, current.number)}
        _add(session, current, queries.SILENT, set(queries.able_clients(session, settings.share)) - answered)
    current.phase = "aggregating"
    current.frozen_entities = queries.row_count(session, "entities")
    current.frozen_relations = queries.row_count(session, "relations")
    queries.tell(session)


def _settle(session: Session, training: Training, current: Round, now: float) -> None:
    """Decide on the evaluated version: it may be the best so far, and the training may end with it."""
    evaluations = queries.federation_valid(session, current.number)
    learnt = training.fixed().local.sides
    mrr = mean_evaluation(evaluations).sides[learnt].mrr if evaluations else None
    before = lifecycle.Standing(training.best_version, training.best_mrr, training.stale)
    after = lifecycle.after_evaluation(before, current.number, mrr)
    training.best_version, training.best_mrr, training.stale = after.best_version, after.best_mrr, after.stale
    if lifecycle.is_finished(after, training.rounds_done, training.fixed()):
        current.closed = training.finished = now
        queries.record(session, now, "coordinator", "finish", round=current.number, subject=training.id)
        queries.tell(session)
    else:
        _enter(session, training, current, "selecting", now)


def _pause(session: Session, training: Training, current: Round, now: float) -> None:
    """Nothing goes on without the operator."""
    training.paused = now
    training.pause_reason = (
        f"round {current.number} stayed below the quorum of {training.fixed().quorum} through {current.attempt} "
        f"deadlines in phase {current.phase}"
    )
    queries.record(session, now, "coordinator", "pause", round=current.number, subject=training.id)
    queries.tell(session)


_CHANGES: dict[Step, Change] = {
    Step.SELECT: _select,
    Step.DRAW: _draw,
    Step.RENEW: _renew,
    Step.FREEZE: freeze,
    Step.SETTLE: _settle,
    Step.PAUSE: _pause,
}
