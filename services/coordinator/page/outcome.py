"""What came of a training: test metrics of its best version in every mode that clients have reported."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import get_args

from sqlalchemy import select
from sqlalchemy.orm import Session

from protocol.rounds import Evaluation, MeanEvaluation, Metrics, Mode
from protocol.trainings import Sides
from services.coordinator.rounds.means import mean_evaluation
from services.coordinator.store.schema import Client, EvaluationRow, Training


@dataclass(frozen=True)
class ClientResult:
    """What one client reported of a mode; names need not be unique."""

    client: str
    name: str
    triples: int
    metrics: Metrics


@dataclass(frozen=True)
class ModeResult:
    """One mode.

    Attributes:
        mean: Over clients, weighted by test triples and plain.
        clients: Each that reported, in the order of joining.
    """

    mean: MeanEvaluation
    clients: list[ClientResult]


@dataclass(frozen=True)
class Outcome:
    """The modes in their usual order, and the side that their metrics are of; clients in the order of joining."""

    sides: Sides
    modes: dict[Mode, ModeResult]
    clients: Sequence[str]

    @property
    def by_client(self) -> list[tuple[str, dict[Mode, ClientResult]]]:
        """Each client's own results in every mode that it reported."""
        found: dict[str, dict[Mode, ClientResult]] = {client: {} for client in self.clients}
        for mode, result in self.modes.items():
            for each in result.clients:
                found[each.client][mode] = each
        return list(found.items())


def outcome(session: Session, training: Training) -> Outcome | None:
    """The outcome of a training; None while nobody has reported any."""
    if training.best_version is None:
        return None
    told: dict[str, list[tuple[str, str, Evaluation]]] = defaultdict(list)
    joined: dict[str, None] = {}
    rows = (
        select(Client.id, Client.name, EvaluationRow.content)
        .join(Client, Client.id == EvaluationRow.client)
        .where(EvaluationRow.round == training.best_version, EvaluationRow.split == "test")
        .order_by(Client.joined, Client.id)
    )
    for client, name, content in session.execute(rows):
        evaluation = Evaluation.model_validate_json(content)
        told[evaluation.mode].append((client, name, evaluation))
        joined[client] = None
    side = training.fixed().local.sides
    modes: dict[Mode, ModeResult] = {
        mode: ModeResult(
            mean_evaluation([evaluation for _, _, evaluation in told[mode]]),
            [ClientResult(client, name, each.triples, each.sides[side]) for client, name, each in told[mode]],
        )
        for mode in get_args(Mode)
        if told[mode]
    }
    return Outcome(side, modes, list(joined)) if modes else None
