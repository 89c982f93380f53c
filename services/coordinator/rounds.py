"""Rounds: opens the first, closes each when its time has come, and opens the next, until the training is finished.

Every step asks again what is to be done inside the transaction that does it, so a step that another thread or process
took first is not taken twice. Killed anywhere, the step that was not committed is taken again with the same result.
"""

from collections.abc import Callable
from typing import Literal

from sqlalchemy import select
from sqlalchemy.orm import Session

from services.coordinator import lifecycle, queries, versions
from services.coordinator.metrics import mean_evaluation
from services.coordinator.schema import Round, Selection, Training
from services.coordinator.situation import Situation, Todo, situation
from services.coordinator.store import Store

Phase = Literal["training", "evaluating"]
Change = Callable[[Session, Training, Round, float], None]


def advance(store: Store) -> None:
    """Do what the current training needs, until it needs nothing more for now."""
    with store.closing:
        while _step(store):
            pass


def _step(store: Store) -> bool:
    """One step; False where nothing was to be done."""
    now = store.clock()
    with store.database.read() as session:
        found = situation(session, now)
    if found is None:
        return False
    if found.todo is Todo.OPEN:
        _open_first(store, found, now)
    elif found.todo is Todo.AGGREGATE:
        _close(store, found, now)
    else:
        _apply(store, found, now, {Todo.FREEZE: _freeze, Todo.SETTLE: _settle, Todo.RENEW: _renew}[found.todo])
    if found.todo in (Todo.AGGREGATE, Todo.SETTLE):
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
            training, current = _rows(session, found)
            change(session, training, current, now)


def _rows(session: Session, found: Situation) -> tuple[Training, Round]:
    return session.get_one(Training, found.training), session.get_one(Round, found.round)


def _open_first(store: Store, found: Situation, now: float) -> None:
    """Write the initial version, then open the training's first round with it."""
    with store.database.read() as session:
        training = session.get_one(Training, found.training)
        number = (queries.last_number(session) or 0) + 1
        model = versions.initial_model(session, training.fixed())
    store.blobs.write_model(number, model)
    with store.database.write() as session:
        if situation(session, now) == found:
            training = session.get_one(Training, found.training)
            _open(session, training, number, "training", now)


def _open(session: Session, training: Training, number: int, phase: Phase, now: float) -> None:
    opened = Round(number=number, training=training.id, phase=phase, opened=now, deadline=now)
    session.add(opened)
    session.flush()
    _enter(session, training, opened, phase, now)


def _enter(session: Session, training: Training, current: Round, phase: Phase, now: float) -> None:
    """Begin a phase of a round: a fresh deadline, and the clients that are to act."""
    settings = training.fixed()
    clients = queries.client_ids(session)
    current.phase = phase
    current.attempt = 1
    current.deadline = now + settings.deadline_seconds
    size = len(clients) if phase == "evaluating" else lifecycle.draw_size(len(clients), settings)
    drawn = lifecycle.select(clients, size, seed=settings.seed, round=current.number, attempt=1)
    session.add_all(Selection(round=current.number, phase=phase, client=client) for client in drawn)
    queries.tell(session)


def _renew(session: Session, training: Training, current: Round, now: float) -> None:
    """The deadline passed below the quorum: what was accepted stays, and further clients are drawn to train."""
    settings = training.fixed()
    current.attempt += 1
    current.deadline = now + settings.deadline_seconds
    if current.phase == "training":
        clients = queries.client_ids(session)
        size = lifecycle.draw_size(len(clients), settings)
        others = set(clients) - set(queries.selected(session, current.number, "training"))
        drawn = lifecycle.select(others, size, seed=settings.seed, round=current.number, attempt=current.attempt)
        session.add_all(Selection(round=current.number, phase="training", client=client) for client in drawn)
    queries.tell(session)


def _freeze(session: Session, training: Training, current: Round, now: float) -> None:
    """From here on no update is taken, so that aggregating, however often, sees the same ones."""
    current.frozen_entities = queries.entity_count(session)


def _close(store: Store, found: Situation, now: float) -> None:
    """Write the version that the frozen updates make, then close the round and open the next with that version."""
    assert found.round is not None
    number = found.round + 1
    try:
        with store.database.read() as session:
            model = versions.next_model(store, session, *_rows(session, found))
    except FileNotFoundError:
        # Another process that closed the round meanwhile has deleted its updates.
        with store.database.read() as session:
            if situation(session, now) == found:
                raise
        return
    store.blobs.write_model(number, model)
    with store.database.write() as session:
        if situation(session, now) != found:
            return
        training, frozen = _rows(session, found)
        frozen.closed = now
        training.rounds_done += 1
        due = lifecycle.is_due(training.rounds_done, training.fixed())
        _open(session, training, number, "evaluating" if due else "training", now)


def _settle(session: Session, training: Training, current: Round, now: float) -> None:
    """Decide on the evaluated version: it may be the best so far, and the training may end with it."""
    evaluations = list(queries.federation_valid(session, current.number).values())
    mrr = mean_evaluation(evaluations).sides["both"].mrr if evaluations else None
    before = lifecycle.Standing(training.best_version, training.best_mrr, training.stale)
    after = lifecycle.after_evaluation(before, current.number, mrr)
    training.best_version, training.best_mrr, training.stale = after.best_version, after.best_mrr, after.stale
    if lifecycle.is_finished(after, training.rounds_done, training.fixed()):
        current.closed = training.finished = now
        queries.tell(session)
    else:
        _enter(session, training, current, "training", now)
