"""The examples of the API page are sent as they stand, signed with the keys that they are of."""

import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from protocol.signatures import Signer
from protocol.trainings import TrainingSettings
from services.coordinator import openapi
from tests.coordinator.support import INVITATION, OPERATOR, Member, Server, bearer
from trainer.interactions import interaction_of
from trainer.sharing import shared_dense

# RFC 8032, section 7.1: the secret keys of tests 1 and 2.
FIRST = "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60"
SECOND = "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb"


def examples(body: dict[str, Any]) -> dict[str, Any]:
    found = body["requestBody"]["content"]["application/json"]["examples"]
    return {name: each["value"] for name, each in found.items()}


def key(secret: str) -> Signer:
    return Signer(Ed25519PrivateKey.from_private_bytes(bytes.fromhex(secret)))


def test_a_client_joins_and_changes_its_key(server: Server) -> None:
    (join,) = examples(openapi.JOIN_BODY).values()
    reply = server.signed(key(FIRST), "POST", "/clients", json.dumps(join).encode(), headers=bearer(INVITATION))
    assert reply.status_code == 201, reply.text
    client = reply.json()["client"]
    (rotation,) = examples(openapi.ROTATION_BODY).values()
    reply = server.signed(key(FIRST), "PUT", f"/clients/{client}/key", json.dumps(rotation).encode())
    assert reply.is_success, reply.text
    assert server.signed(key(SECOND), "GET", "/round").status_code == 200


@pytest.mark.parametrize("name", examples(openapi.TRAINING_BODY))
def test_a_training_is_started_that_clients_can_take_part_in(server: Server, name: str) -> None:
    body = examples(openapi.TRAINING_BODY)[name]
    reply = server.http.post("/round", json=body, headers=bearer(OPERATOR))
    assert reply.status_code == 201, reply.text
    settings = TrainingSettings.model_validate(body)
    made = interaction_of(settings.interaction, None, settings.local)
    assert settings.dense == shared_dense(made, settings.dim, settings.local)


def test_a_browser_signs_in(tmp_path: Path) -> None:
    (body,) = examples(openapi.SIGN_IN_BODY).values()
    server = Server(tmp_path, COORDINATOR_OPERATOR_TOKEN=body["token"])
    assert server.http.post("/session", json=body).status_code == 201
    server.close()


def test_an_evaluation_is_taken(server: Server) -> None:
    (body,) = examples(openapi.EVALUATION_BODY).values()
    member = Member("clinic", ["e1", "e2"], {"train": 800, "valid": body["triples"], "test": 100})
    server.join(member)
    server.begin(clients=1, evaluate_every=1)
    server.run([member], stop_at=2)
    view = server.until(2, "evaluating")
    reply = server.signed(member, "PUT", f"/round/{view.round}/evaluation", json.dumps(body).encode())
    assert reply.status_code == 201, reply.text
