"""The coordinator's routes as typed calls, of clients and of operators."""

from collections.abc import Callable, Iterator, Mapping
from types import TracebackType
from typing import Any, BinaryIO, Self

import numpy as np
from numpy.typing import NDArray

from protocol import tensors
from protocol.members import Audit, Clients, JoinReply, JoinRequest, KeyRotation
from protocol.problems import Conflict, NotFound
from protocol.rounds import (
    Evaluation,
    EvaluationReceipt,
    Rounds,
    RoundView,
    TrainingSummary,
    UpdateHeader,
    UpdateReceipt,
)
from protocol.trainings import WIRE_DTYPES, TrainingSettings, model_tensors
from protocol.watching import Pass
from trainer.clients.service import Service
from trainer.reports import Report, unheard

POLL_SECONDS = 25
ANSWER_SECONDS = 35
"""Beyond what a call asks the coordinator to wait: a connection that is silent for so long is a broken one."""
PAGE = 1000


class Coordinator:
    """Typed calls. The service signs a client's, and has an operator's token for an operator's.

    The coordinator refuses an operator's call where what it asks for is done already. Where a reply was lost and the
    service has tried again, the call itself may have done it: it looks, and if so returns as if the reply had come.

    Raises:
        ServiceUnreachable, ClockWrong, ProblemError: As `Service` says; every call may.
    """

    def __init__(self, service: Service) -> None:
        self.service = service

    @classmethod
    def at(cls, url: str, operator_token: str | None = None, report: Report = unheard) -> Self:
        """The coordinator at an address, for an operator. Clients have a `Service` with a `Signer` of their key.

        Raises:
            AddressWrong: The address is not a URL.
        """
        return cls(Service("coordinator", url, operator_token, report))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.service.close()

    def join(self, request: JoinRequest, invitation: str | None) -> JoinReply:
        """Become a client, with the invitation token where the key is not on the coordinator's list."""
        body = self.service.json("POST", "/clients", request.model_dump_json(), token=invitation)
        return JoinReply.model_validate_json(body)

    def leave(self, client: str) -> None:
        """Be a client no more; as an operator, remove one for good."""
        lost = self.service.lost
        try:
            self.service.json("DELETE", f"/clients/{client}")
        except NotFound:
            # A client may not look who is a member, and need not: it is none, whoever removed it.
            if self.service.signer or self.service.lost == lost or not self._revoked(client):
                raise

    def _revoked(self, client: str) -> bool:
        return any(known.client == client and known.removed_by == "operator" for known in self.clients().clients)

    def rotate(self, client: str, rotation: KeyRotation) -> None:
        """Let another key speak for the client from now on."""
        self.service.json("PUT", f"/clients/{client}/key", rotation.model_dump_json())

    def view(self, after: int | None = None) -> RoundView:
        """The round as this client should see it; with `after`, waits for a later event, `POLL_SECONDS` at most."""
        wait = None if after is None else POLL_SECONDS
        seconds = ANSWER_SECONDS + (wait or 0)
        body = self.service.json("GET", "/round", seconds=seconds, wait=wait, after=after)
        return RoundView.model_validate_json(body)

    def embeddings(
        self, version: int, settings: TrainingSettings, entities: int, relations: int
    ) -> dict[str, NDArray[np.float32]]:
        """This client's share of a version, as `model_tensors` lists it: writable float32 copies."""
        body = self.service.tensors("GET", f"/round/{version}/embeddings")
        arrays, _ = tensors.decode(body, model_tensors(settings, entities, relations))
        return arrays

    def send_update(
        self, number: int, shared: Mapping[str, NDArray[Any]], header: UpdateHeader, settings: TrainingSettings
    ) -> UpdateReceipt:
        """Send what `update_tensors` lists, in the training's dtype; the same again is the same body."""
        body = tensors.encode(shared, header.model_dump(), WIRE_DTYPES[settings.wire_dtype])
        return UpdateReceipt.model_validate_json(self.service.tensors("PUT", f"/round/{number}/update", body))

    def send_evaluation(self, version: int, evaluation: Evaluation) -> EvaluationReceipt:
        """Report metrics of a version; safe to repeat."""
        body = self.service.json("PUT", f"/round/{version}/evaluation", evaluation.model_dump_json())
        return EvaluationReceipt.model_validate_json(body)

    def start(self, settings: TrainingSettings) -> TrainingSummary:
        """Start a training, as an operator."""
        return self._steer("/round", lambda latest: latest.settings == settings, settings.model_dump_json())

    def pause(self) -> TrainingSummary:
        """Keep the running training as it is, as an operator."""
        return self._steer("/round/pause", lambda latest: latest.paused is not None)

    def resume(self) -> TrainingSummary:
        """Go on with a paused training, as an operator."""
        return self._steer("/round/resume", lambda latest: latest.paused is None and latest.finished is None)

    def stop(self) -> TrainingSummary:
        """End the running training with its best version so far, as an operator."""
        return self._steer("/round/stop", lambda latest: latest.finished is not None)

    def _steer(self, path: str, done: Callable[[TrainingSummary], bool], body: str | None = None) -> TrainingSummary:
        """The training after a change; `done` says whether the latest one is as the change leaves it."""
        lost = self.service.lost
        try:
            return TrainingSummary.model_validate_json(self.service.json("POST", path, body))
        except Conflict:
            # Refused at once, it is somebody else's doing; after a lost reply, it may be this call's own.
            trainings = self.rounds(limit=1).trainings if self.service.lost > lost else []
            if not trainings or not done(trainings[0]):
                raise
            return trainings[0]

    def page(self, address: str | None = None) -> tuple[str, Pass]:
        """A link that opens the coordinator's page for a viewer, as an operator, and the pass that is in it.

        Args:
            address: Of the coordinator for people, where it is another than for this program.
        """
        made = Pass.model_validate_json(self.service.json("POST", "/session/pass"))
        return f"{(address or self.service.url).rstrip('/')}/#pass={made.token}", made

    def clients(self) -> Clients:
        """Everybody that ever joined, as an operator."""
        return Clients.model_validate_json(self.service.json("GET", "/clients"))

    def model(self, out: BinaryIO, training: str | None) -> None:
        """Write the best version of a training, or of the latest, to a file, as an operator."""
        self.service.download("/model", out, training=training)

    def history(self, training: str | None) -> Iterator[Rounds]:
        """All rounds, or a training's, page by page, the newest first."""
        before, more = None, True
        while more:
            page = self.service.json("GET", "/rounds", training=training, limit=PAGE, before=before)
            yield (rounds := Rounds.model_validate_json(page))
            before, more = rounds.next_before, rounds.next_before is not None

    def audit(self) -> Iterator[Audit]:
        """The audit log, page by page, the newest first, as an operator."""
        before, more = None, True
        while more:
            yield (audit := Audit.model_validate_json(self.service.json("GET", "/audit", limit=PAGE, before=before)))
            before, more = audit.next_before, audit.next_before is not None

    def rounds(self, training: str | None = None, limit: int | None = None) -> Rounds:
        """The history."""
        return Rounds.model_validate_json(self.service.json("GET", "/rounds", training=training, limit=limit))
