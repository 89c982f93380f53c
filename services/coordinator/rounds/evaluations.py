"""Taking a client's metrics of a version: while it is being evaluated, and of a training's best version afterwards."""

import hashlib

from sqlalchemy.orm import Session

from protocol.problems import Conflict, Forbidden, InvalidRequest
from protocol.rounds import Evaluation, EvaluationReceipt
from services.coordinator.store import queries
from services.coordinator.store.schema import Client, EvaluationRow, Round, Selection
from services.coordinator.store.store import Store


def accept_evaluation(
    store: Store, client: str, key: str, number: int, evaluation: Evaluation
) -> tuple[EvaluationReceipt, bool]:
    """Store a client's metrics of version `number`, once a mode and split; `key` signed the request.

    Returns:
        The receipt, and whether the evaluation is new rather than a repetition.

    Raises:
        Conflict: The version is neither being evaluated nor the best of a finished training, or other metrics stand.
        InvalidRequest: It ranked more triples than it joined with, or lacks the side that chooses versions.
        Forbidden: The client joined after the evaluation began, or after the training was finished.
        Unauthorized: The key was replaced while the body came: who stole it is too late.
    """
    content = evaluation.model_dump_json()
    place = (number, client, evaluation.mode, evaluation.split)
    with store.database.write() as session:
        queries.check_key(session, client, key)
        member = session.get_one(Client, client)
        holds = member.valid if evaluation.split == "valid" else member.test
        if evaluation.triples > holds:
            weigh = f"{evaluation.triples}; this client joined with {holds} {evaluation.split} triples, which weigh it"
            raise InvalidRequest.of("triples", weigh)
        standing = session.get(EvaluationRow, place)
        if standing is None:
            _admit(session, client, number, evaluation)
            session.add(
                EvaluationRow(
                    round=number, client=client, mode=evaluation.mode, split=evaluation.split, content=content
                )
            )
            digest = hashlib.sha256(content.encode()).hexdigest()
            queries.record(session, store.clock(), client, "evaluation", round=number, digest=digest)
            queries.tell(session)
        elif standing.content != content:
            raise Conflict(
                f"other metrics of this client for version {number}, {evaluation.mode}, {evaluation.split}, stand",
                current_round=queries.last_number(session),
            )
        receipt = EvaluationReceipt(
            training=session.get_one(Round, number).training,
            round=number,
            client=client,
            mode=evaluation.mode,
            split=evaluation.split,
        )
        return receipt, standing is None


def _admit(session: Session, client: str, number: int, evaluation: Evaluation) -> None:
    """Raise unless these metrics of the version are taken from this client now."""
    if session.get_one(Client, client).removed_by is not None:
        raise Forbidden(f"client {client} is no member any more")
    version = session.get(Round, number)
    if version is not None:
        training = queries.training_by_id(session, version.training)
        assert training is not None
        learnt = training.fixed().local.sides
        if learnt not in evaluation.sides:
            raise InvalidRequest.of("sides", f"`{learnt}` is missing; this training chooses its versions by it")
        if training.finished is not None and training.best_version == number:
            if session.get_one(Client, client).joined > training.finished:
                raise Forbidden(f"training {training.id} was finished before this client joined")
            return
        if version.phase == "evaluating" and version.closed is None:
            if session.get(Selection, (number, "evaluating", client)) is None:
                raise Forbidden(f"the evaluation of version {number} began before this client joined")
            return
    raise Conflict(
        f"version {number} is neither being evaluated nor the best of a finished training; see GET /round",
        current_round=queries.last_number(session),
    )
