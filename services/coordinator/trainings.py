"""Starting a training."""

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
