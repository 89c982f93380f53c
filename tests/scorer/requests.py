"""Calls in both forms, and what comes back for them."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx
import numpy as np
from safetensors.numpy import save

from protocol import tensors
from protocol.encoding import ENCODE_GRADIENT_REPLY_TENSORS, ENCODE_REPLY_TENSORS
from protocol.ranking import RANK_REPLY_TENSORS
from protocol.scoring import SCORE_GRADIENT_REPLY_TENSORS, SCORE_REPLY_TENSORS

HIDDEN = 128
"""Of the random model."""
ST = {"content-type": tensors.MEDIA_TYPE}
JSON = {"content-type": "application/json"}
QUERY: dict[str, Any] = {"entities": [{"name": "a"}], "relations": [{"name": "r"}], "queries": [[0, 0]]}
SHORT: dict[str, Any] = {"triples": [{"head": "a", "relation": "b", "tail": "c"}]}
REPLIES = {
    "/score": SCORE_REPLY_TENSORS,
    "/score/gradient": SCORE_GRADIENT_REPLY_TENSORS,
    "/rank": RANK_REPLY_TENSORS,
    "/encode": ENCODE_REPLY_TENSORS,
    "/encode/gradient": ENCODE_GRADIENT_REPLY_TENSORS,
}

ENTITIES = [{"name": "gout"}, {"name": "an ache", "description": "that lasts"}, {}, {"description": "a plant"}]
RELATIONS = [{}, {"name": "treats"}]
TEXT_ONLY = 1
"""The entity that has no vectors in its prompt, so that `likelihood` may ask for it."""
TRIPLES = np.array([[0, 0, 1], [2, 1, 1], [0, 0, 2], [3, 1, 0], [0, 0, 1]], dtype="i4")
QUERIES = np.array([[0, 0], [2, 1], [0, 0], [3, 0]], dtype="i4")
SIDES = np.array([0, 1, 1, 0], dtype="u1")


def vectors(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype("f4")


@dataclass(frozen=True)
class Call:
    """A call of the slots above, with vectors in all rows but the one that is text only.

    Attributes:
        arrays: What travels as tensors beside the slots.
        said: What travels as it is: in the body, or in the message of a tensor body.
    """

    path: str
    hidden: int = HIDDEN
    arrays: Mapping[str, np.ndarray] = field(default_factory=dict)
    said: Mapping[str, Any] = field(default_factory=dict)

    @property
    def entities(self) -> np.ndarray:
        return vectors(len(ENTITIES), 2, self.hidden)

    @property
    def relations(self) -> np.ndarray:
        return vectors(len(RELATIONS), 1, self.hidden, seed=1)

    @property
    def json(self) -> dict[str, Any]:
        rows = zip(ENTITIES, self.entities.tolist(), strict=True)
        body = {
            "entities": [text if n == TEXT_ONLY else text | {"vectors": v} for n, (text, v) in enumerate(rows)],
            "relations": [t | {"vectors": v} for t, v in zip(RELATIONS, self.relations.tolist(), strict=True)],
        }
        lists: dict[str, Any] = {name: array.tolist() for name, array in self.arrays.items()}
        if self.path == "/rank":
            lists["query"], lists["side"] = lists.pop("queries")[0], lists.pop("sides")[0]
        return body | lists | dict(self.said)

    @property
    def tensors(self) -> bytes:
        return self.but()

    def but(self, says: Any = None, **arrays: np.ndarray | None) -> bytes:
        """The tensor body with other tensors, None for one that is left out, and with more in its message."""
        texts: dict[str, Any] = {str(row): text for row, text in enumerate(ENTITIES) if text}
        texts[str(TEXT_ONLY)] = texts[str(TEXT_ONLY)] | {"text_only": True}
        message = {"entity_texts": texts, "relation_texts": {"1": RELATIONS[1]}} | dict(self.said) | (says or {})
        parts = {"entities": self.entities, "relations": self.relations} | dict(self.arrays) | arrays
        # By the library, which also writes the dtypes that are to be refused.
        given = {name: np.ascontiguousarray(part) for name, part in parts.items() if part is not None}
        return bytes(save(given, {"message": json.dumps(message)}))


def score_call(hidden: int = HIDDEN, path: str = "/score", triples: np.ndarray = TRIPLES, **given: Any) -> Call:
    return _call(path, hidden, {"triples": triples}, given)


def encode_call(hidden: int = HIDDEN, path: str = "/encode", **given: Any) -> Call:
    return _call(path, hidden, {"queries": QUERIES, "sides": SIDES}, given)


def rank_call(hidden: int = HIDDEN, side: int = 0, candidates: Any = (1, 2, 0, 1, 3), **given: Any) -> Call:
    """Of the query (entity 0, relation 1)."""
    query = {"queries": np.array([[0, 1]], dtype="i4"), "sides": np.array([side], dtype="u1")}
    return _call("/rank", hidden, query | {"candidates": np.array(candidates, dtype="i4")}, given)


def _call(path: str, hidden: int, arrays: Mapping[str, np.ndarray], given: Mapping[str, Any]) -> Call:
    """Arrays among what is given travel as tensors."""
    more = {name: value for name, value in given.items() if isinstance(value, np.ndarray)}
    return Call(path, hidden, {**arrays, **more}, {name: v for name, v in given.items() if name not in more})


def spoken(client: httpx.Client, call: Call) -> dict[str, Any]:
    """The reply in JSON."""
    reply = client.post(call.path, json=call.json)
    assert reply.status_code == 200, reply.text
    assert reply.headers["content-type"] == "application/json"
    found: dict[str, Any] = reply.json()
    return found


def sent(client: httpx.Client, call: Call) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The reply in tensors, and its message."""
    reply = client.post(call.path, content=call.tensors, headers=ST)
    assert reply.status_code == 200, reply.text
    assert reply.headers["content-type"] == tensors.MEDIA_TYPE
    return tensors.decode(reply.content, REPLIES[call.path])
