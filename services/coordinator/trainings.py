"""Starting a training, and stopping it."""

import math
import secrets

from protocol.federation import TrainingSettings, TrainingSummary
from protocol.problems import Conflict, InvalidRequest
from services.coordinator import queries
from services.coordinator.history import training_summary
from services.coordinator.schema import Training
from services.coordinator.store import Store


def start_training(store: Store, settings: TrainingSettings, max_body_bytes: int) -> TrainingSummary:
    """Fix a training for all clients; its first round opens once enough of them have joined.

    Raises:
        InvalidRequest: Its dense tensors alone are longer than an update may be.
        Conflict: Another training is not finished.
    """
    if 4 * sum(math.prod(dense.shape) for dense in settings.dense.values()) > max_body_bytes:
        raise InvalidRequest.of("dense", f"these tensors are over {max_body_bytes} bytes, the bound of an update")
    with store.database.write() as session:
        latest = queries.latest_training(session)
        if latest is not None and latest.finished is None:
            raise Conflict(f"training {latest.id} is not finished; one runs at a time", training=latest.id)
        training = Training(id=secrets.token_hex(8), settings=settings.model_dump_json(), started=store.clock())
        training.rounds_done = training.stale = 0
        session.add(training)
        queries.tell(session)
        session.flush()
        return training_summary(session, training)


def stop_training(store: Store) -> TrainingSummary:
    """End the running training with the best version so far, or else with the one that its current round started from.

    Raises:
        Conflict: None is running.
    """
    with store.database.write() as session:
        training = queries.latest_training(session)
        if training is None or training.finished is not None:
            raise Conflict("no training is running")
        current = queries.last_round(session, training.id)
        if current is not None:
            current.closed = store.clock()
            training.best_version = training.best_version or current.number
        training.finished = store.clock()
        queries.tell(session)
        return training_summary(session, training)
