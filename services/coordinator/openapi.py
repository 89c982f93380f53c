"""What the API page shows of bodies that routes read by hand: schemas, examples, tensors in words."""

from typing import Any

from pydantic import BaseModel

from protocol.members import JoinRequest, KeyRotation
from protocol.rounds import Evaluation, UpdateHeader
from protocol.tensors import MEDIA_TYPE
from protocol.trainings import TrainingSettings
from protocol.watching import SignIn
from services.openapi import binary, body_of

MODELS: list[type[BaseModel]] = [JoinRequest, KeyRotation, TrainingSettings, UpdateHeader, Evaluation, SignIn]

# Of the two keys of RFC 8032's first tests (section 7.1), so that who holds them can send what stands here.
_KEY, _NEW_KEY = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo", "PUAXw-hDiVqStwqnTRt-vJyYLM8uxJaMwM1V8Sr0Zgw"
_PROOF = "BhmPZvo6h8ZEr4Ppp3BpkKYWmdw_6G2jHfinIwYsms08h1PhdJleSAdvhSmqSLzvn5zNpackaH7fXcjGMLJ6Bg"

_HITS = {"hits@1": 0.32, "hits@3": 0.45, "hits@5": 0.5, "hits@10": 0.58}
_METRICS = {"mrr": 0.41, **_HITS, "mr": 31.5, "amri": 0.87, "mrr_gap": 0.0}

JOIN_BODY = body_of(
    JoinRequest,
    {
        "two entities": {
            "name": "north hospital",
            "public_key": _KEY,
            "entities": ["a1" * 32, "b2" * 32],
            "triples": {"train": 800, "valid": 100, "test": 100},
        }
    },
)
ROTATION_BODY = body_of(
    KeyRotation,
    {"a new key": {"public_key": _NEW_KEY, "proof": _PROOF}},
)
TRAINING_BODY = body_of(
    TrainingSettings,
    {
        "three clients, TransE": {
            "interaction": "transe",
            "dim": 128,
            "clients": 3,
            "local": {"loss": "self_adversarial"},
        },
        "a random half each round": {
            "interaction": "distmult",
            "clients": 10,
            "fraction": 0.5,
            "quorum": 3,
            "deadline_seconds": 120,
        },
    },
)
SIGN_IN_BODY = body_of(SignIn, {"the operators' token": {"token": "operators-token-of-this-coordinator"}})
_HTML = {"text/html": {"schema": {"type": "string"}}}
SIGN_IN_PAGE = {"description": "Nobody has signed in: the page asks for a token.", "content": _HTML}
GONE_PAGE = {"description": "There is no such training.", "content": _HTML}
UPDATE_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            MEDIA_TYPE: binary(
                "`entities` [n, dim], the trained rows of the client's n entities in the order of its joining, and "
                "each of the training's dense tensors as `dense.<name>`, in the training's `wire_dtype`; `relations` "
                "[m, relation_dim] where the training shares relations; int32 `frequencies` [n] where it weighs by "
                "them. The header's metadata entry `message` is JSON as the schema `UpdateHeader` says."
            )
        },
    }
}
EVALUATION_BODY = body_of(
    Evaluation,
    {"validation": {"mode": "federation", "split": "valid", "triples": 100, "sides": {"both": _METRICS}}},
)
SHARE = {
    "description": "The client's share of the version.",
    "content": {
        MEDIA_TYPE: binary(
            "`entities` [n, dim], `relations` [m, relation_dim] where the training shares them, and `dense.<name>`, in "
            "the training's `wire_dtype`; the message holds `training` and `round`."
        )
    },
}
NOT_MODIFIED = {"description": "The client has this share already: its ETag was sent as If-None-Match."}
MODEL = {
    "description": "The best version.",
    "content": {
        MEDIA_TYPE: binary(
            "`entities` float32 [n, dim] with `entity_keys` uint8 [n, 32], `relations` and `relation_keys` where the "
            "training shares relations, `dense.<name>`; the message holds `training`, `version` and `settings`."
        )
    },
}


def same_receipt(model: type[BaseModel]) -> dict[str, Any]:
    """The response to content that is stored already."""
    return {"description": "This was stored already; the receipt is the same.", "model": model}
