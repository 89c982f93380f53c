"""The words of the scorer's API page: descriptions, examples that run on the embedded model, tensor layouts."""

from typing import Any

from pydantic import BaseModel

from protocol.scoring import (
    EncodeGradientReply,
    EncodeGradientRequest,
    EncodeHeader,
    EncodeReply,
    EncodeRequest,
    ScoreHeader,
    ScoreReply,
    ScoreRequest,
)
from services.scorer.embedded import HIDDEN

DESCRIPTION = """\
One frozen LLaMA that scores triples (head, relation, tail). A slot of a prompt is filled by text, by trained vectors
that go into the model's input as they are, or by both (text first).

Bodies are `application/json` or `application/safetensors`; a reply has the form of its request. In a safetensors body
all that is not a tensor is one JSON object, under the key `message` of the header's metadata. Every refusal is an
RFC 9457 problem document that names the field at fault.
"""
TAGS = [
    {"name": "scoring", "description": "Scores of triples."},
    {"name": "encoding", "description": "Hidden states of queries, and their gradients: for training."},
    {"name": "status", "description": "Whether the scorer runs, and what it runs."},
]
MODELS: list[type[BaseModel]] = [
    ScoreRequest,
    ScoreReply,
    ScoreHeader,
    EncodeRequest,
    EncodeReply,
    EncodeHeader,
    EncodeGradientRequest,
    EncodeGradientReply,
]

_INPUTS = (
    "`entities` F32 [n, k, hidden] and `relations` F32 [m, l, hidden], vectors of each row, both optional; "
    "{indices}. The message is a {header}: its texts, by row, stand before the row's vectors; without a tensor the "
    "texts are the rows 0, 1, ...; `text_only` leaves a row's vectors out."
)
_QUERIES = (
    "`queries` I32 [q, 2], rows of entity and relation; `sides` U8 [q], 0 asks for the tail, 1 for the head, optional"
)
_PROVENANCE = "The message holds model, revision, template, template_hash, readout and usage."

SCORE_BODY = _INPUTS.format(indices="`triples` I32 [t, 3], rows of head, relation and tail", header="ScoreHeader")
SCORE_REPLY = f"`scores` F32 [t]. {_PROVENANCE}"
ENCODE_BODY = _INPUTS.format(indices=_QUERIES, header="EncodeHeader")
ENCODE_REPLY = f"`states` F32 [q, hidden]. {_PROVENANCE}"
GRADIENT_BODY = _INPUTS.format(indices=f"{_QUERIES}; `grad_states` F32 [q, hidden]", header="EncodeHeader")
GRADIENT_REPLY = (
    "`entities` F32 [n, k, hidden] and `relations` F32 [m, l, hidden], where they were sent; rows whose vectors are in "
    f"no prompt are zero. {_PROVENANCE}"
)

_QUERY: dict[str, Any] = {
    "entities": [{"name": "aspirin"}, {"name": "headache", "description": "pain in the head"}],
    "relations": [{"name": "treats"}],
    "queries": [[0, 0], [1, 0]],
    "sides": [0, 1],
}
SCORE_EXAMPLES: dict[str, Any] = {
    "names": {"triples": [{"head": "aspirin", "relation": "treats", "tail": "headache"}]},
    "indices": {
        "entities": _QUERY["entities"],
        "relations": _QUERY["relations"],
        "triples": [[0, 0, 1], [1, 0, 0]],
        "readout": "verdict",
        "template": "triple",
    },
}
ENCODE_EXAMPLES: dict[str, Any] = {"both sides": _QUERY}
GRADIENT_EXAMPLES: dict[str, Any] = {
    f"hidden size {HIDDEN}": {**_QUERY, "grad_states": [[1.0] + [0.0] * (HIDDEN - 1), [0.0] * HIDDEN]}
}
