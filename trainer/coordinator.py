"""The coordinator as a client or an operator sees it."""

from protocol import tensors
from protocol.federation import (
    Evaluation,
    EvaluationReceipt,
    JoinReply,
    JoinRequest,
    Rounds,
    RoundView,
    TrainingSettings,
    TrainingSummary,
    UpdateHeader,
    UpdateReceipt,
    model_tensors,
)
from trainer.model import Array
from trainer.service import Service

POLL_SECONDS = 25


class Coordinator:
    """Typed calls.

    Raises:
        ServiceUnreachable, ProblemError: As `Service` says; every call may.
    """

    def __init__(self, service: Service) -> None:
        self.service = service

    def join(self, request: JoinRequest) -> JoinReply:
        """Become a client; the service's token must be the invitation."""
        return JoinReply.model_validate_json(self.service.json("POST", "/clients", request.model_dump_json()))

    def view(self, after: int | None = None) -> RoundView:
        """The round as this client should see it; with `after`, waits for a later event, `POLL_SECONDS` at most."""
        wait = None if after is None else POLL_SECONDS
        return RoundView.model_validate_json(self.service.json("GET", "/round", wait=wait, after=after))

    def embeddings(self, version: int, settings: TrainingSettings, rows: int) -> dict[str, Array]:
        """This client's share of a version: `entities` [rows, dim] and the `dense.<name>` tensors, writable copies."""
        body = self.service.tensors("GET", f"/round/{version}/embeddings")
        arrays, _ = tensors.decode(body, model_tensors(settings, rows))
        return {name: array.copy() for name, array in arrays.items()}

    def send_update(self, number: int, shared: dict[str, Array], header: UpdateHeader) -> UpdateReceipt:
        """Send trained rows and dense tensors; safe to repeat."""
        body = tensors.encode(shared, header.model_dump())
        return UpdateReceipt.model_validate_json(self.service.tensors("PUT", f"/round/{number}/update", body))

    def send_evaluation(self, version: int, evaluation: Evaluation) -> EvaluationReceipt:
        """Report metrics of a version; safe to repeat."""
        body = self.service.json("PUT", f"/round/{version}/evaluation", evaluation.model_dump_json())
        return EvaluationReceipt.model_validate_json(body)

    def start(self, settings: TrainingSettings) -> TrainingSummary:
        """Start a training; the service's token must be the operator's."""
        return TrainingSummary.model_validate_json(self.service.json("POST", "/round", settings.model_dump_json()))

    def rounds(self, training: str | None = None, limit: int | None = None) -> Rounds:
        """The history."""
        return Rounds.model_validate_json(self.service.json("GET", "/rounds", training=training, limit=limit))
