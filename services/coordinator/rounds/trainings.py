"""What an operator does with trainings: start, pause, resume, stop. One runs at a time."""

import hashlib
import math
import secrets

from sqlalchemy.orm import Session

from protocol.problems import Conflict, InvalidRequest
from protocol.rounds import TrainingSummary
from protocol.trainings import TrainingSettings
from services.coordinator.rounds.history import training_summary
from services.coordinator.store import queries
from services.coordinator.store.schema import Training
from services.coordinator.store.store import Store

BY_OPERATOR = "by the operator"


def start_training(store: Store, settings: TrainingSettings, max_body_bytes: int) -> TrainingSummary:
    """Fix a training for all clients; its first round opens once enough of them have joined.

    Raises:
        InvalidRequest: Its dense tensors alone are longer than an update may be.
        Conflict: Another training is not finished.
    """
    if 4 * sum(math.prod(dense.shape) for dense in settings.dense.values()) > max_body_bytes:
        raise InvalidRequest.of("dense", f"these tensors are over {max_body_bytes} bytes, the bound of an update")
    content = settings.model_dump_json()
    with store.database.write() as session:
        latest = queries.latest_training(session)
        if latest is not None and latest.finished is None:
            raise Conflict(f"training {latest.id} is not finished; one runs at a time", training=latest.id)
        ordinal = latest.ordinal + 1 if latest else 1
        training = Training(ordinal=ordinal, id=secrets.token_hex(8), settings=content, started=store.clock())
        training.rounds_done = training.stale = 0
        session.add(training)
        session.flush()
        _done(store, session, training, "start", hashlib.sha256(content.encode()).hexdigest())
        return training_summary(session, training)


def pause_training(store: Store) -> TrainingSummary:
    """Keep the running training as it is until it is resumed. Updates that clients have trained are still taken.

    Raises:
        Conflict: None is running, or it is paused.
    """
    with store.database.write() as session:
        training = _running(session)
        if training.paused is not None:
            raise Conflict(f"training {training.id} is paused already: {training.pause_reason}", training=training.id)
        training.paused, training.pause_reason = store.clock(), BY_OPERATOR
        _done(store, session, training, "pause")
        return training_summary(session, training)


def resume_training(store: Store) -> TrainingSummary:
    """Go on where the training was paused, with a fresh deadline and all of its attempts.

    Raises:
        Conflict: None is running, or it is not paused.
    """
    with store.database.write() as session:
        training = _running(session)
        if training.paused is None:
            raise Conflict(f"training {training.id} is not paused", training=training.id)
        training.paused = training.pause_reason = None
        current = queries.last_round(session, training.id)
        if current is not None:
            current.attempt = 1
            current.deadline = store.clock() + training.fixed().deadline_seconds
        _done(store, session, training, "resume")
        return training_summary(session, training)


def stop_training(store: Store) -> TrainingSummary:
    """End the running training with the best version so far, or else with the one that its current round started from.

    Raises:
        Conflict: None is running.
    """
    with store.database.write() as session:
        training = _running(session)
        current = queries.last_round(session, training.id)
        if current is not None:
            current.closed = store.clock()
            training.best_version = training.best_version or current.number
        training.finished = store.clock()
        training.paused = training.pause_reason = None
        _done(store, session, training, "stop")
        return training_summary(session, training)


def _running(session: Session) -> Training:
    training = queries.latest_training(session)
    if training is None or training.finished is not None:
        raise Conflict("no training is running")
    return training


def _done(store: Store, session: Session, training: Training, did: str, digest: str | None = None) -> None:
    queries.record(session, store.clock(), "operator", did, subject=training.id, digest=digest)
    queries.tell(session)
