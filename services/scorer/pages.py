"""The words of the scorer's API page: descriptions, examples that run on the embedded model, tensor layouts."""

import json
from typing import Any

from pydantic import BaseModel

from protocol.encoding import (
    EncodeGradientHeader,
    EncodeGradientReply,
    EncodeGradientRequest,
    EncodeHeader,
    EncodeReply,
    EncodeRequest,
)
from protocol.ranking import RankHeader, RankReply, RankRequest
from protocol.scoring import (
    ScoreGradientHeader,
    ScoreGradientReply,
    ScoreGradientRequest,
    ScoreHeader,
    ScoreReply,
    ScoreRequest,
)
from services.scorer.model.loading import EMBEDDED_FOLDER

HIDDEN: int = json.loads((EMBEDDED_FOLDER / "config.json").read_text(encoding="utf-8"))["hidden_size"]
"""Of the embedded model, on which the examples run."""

DESCRIPTION = """\
One frozen LLaMA that scores triples (head, relation, tail). A slot of a prompt is filled by text, by trained vectors
that go into the model's input as they are, or by both (text first).

Bodies are `application/json` or `application/safetensors`; a reply has the form of its request. In a safetensors body
all that is not a tensor is one JSON object, under the key `message` of the header's metadata. Every refusal is an
RFC 9457 problem document that names the field at fault.
"""
TAGS = [
    {"name": "scoring", "description": "Scores of triples, their gradients, and ranks of candidates."},
    {"name": "encoding", "description": "Hidden states of queries, and their gradients: for training."},
    {"name": "status", "description": "Whether the scorer runs, and what it runs."},
]
MODELS: list[type[BaseModel]] = [
    ScoreRequest,
    ScoreReply,
    ScoreHeader,
    ScoreGradientRequest,
    ScoreGradientReply,
    ScoreGradientHeader,
    RankRequest,
    RankReply,
    RankHeader,
    EncodeRequest,
    EncodeReply,
    EncodeHeader,
    EncodeGradientRequest,
    EncodeGradientReply,
    EncodeGradientHeader,
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

_TRIPLES = "`triples` I32 [t, 3], rows of head, relation and tail"
_NULLS = "NaN stands where a score could not be read, with a reason by place in the message's `reasons`"
_GRADIENTS = (
    "`entities` F32 [n, k, hidden] and `relations` F32 [m, l, hidden], where they were sent; rows whose vectors are in "
    "no prompt are zero"
)
SCORE_BODY = _INPUTS.format(indices=_TRIPLES, header="ScoreHeader")
SCORE_REPLY = (
    "`scores` F32 [t]; `probabilities` F32 [t] of `verdict`; `masses` F32 [t] of `verdict` and `number`. "
    f"{_NULLS}. {_PROVENANCE}"
)
SCORE_GRADIENT_BODY = _INPUTS.format(
    indices=f"{_TRIPLES}; `grad_scores` F32 [t], or, with a `loss` in the message, `groups` I32 [t] or `labels` F32 "
    "[t]",
    header="ScoreGradientHeader",
)
SCORE_GRADIENT_REPLY = f"{_GRADIENTS}; `scores` F32 [t]. {_PROVENANCE} So does `loss`, where one was named."
RANK_BODY = _INPUTS.format(
    indices="`queries` I32 [1, 2], rows of the given entity and the relation; `sides` U8 [1], 0 asks for the tail, 1 "
    "for the head, optional; `candidates` I32 [c], rows of entities",
    header="RankHeader",
)
RANK_REPLY = (
    "The best first: `indices` I32 [r], places in `candidates`; `scores` F32 [r]; `ranks` F32 [r]. Candidates without "
    f"a score are left out, with a reason in the message's `reasons`. {_PROVENANCE}"
)
ENCODE_BODY = _INPUTS.format(indices=_QUERIES, header="EncodeHeader")
ENCODE_REPLY = f"`states` F32 [q, hidden]. {_PROVENANCE}"
GRADIENT_BODY = _INPUTS.format(indices=f"{_QUERIES}; `grad_states` F32 [q, hidden]", header="EncodeGradientHeader")
GRADIENT_REPLY = f"{_GRADIENTS}. {_PROVENANCE}"

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
SCORE_EXAMPLES["likelihood"] = SCORE_EXAMPLES["names"] | {"readout": "likelihood"}
SCORE_EXAMPLES["number"] = SCORE_EXAMPLES["names"] | {"readout": "number"}
SCORE_GRADIENT_EXAMPLES: dict[str, Any] = {
    "given": {**SCORE_EXAMPLES["indices"], "grad_scores": [-0.5, 0.5]},
    "a loss over groups": {
        **SCORE_EXAMPLES["indices"],
        "loss": {"name": "self_adversarial", "temperature": 1.0},
        "groups": [0, 0],
    },
    "a loss over labels": {**SCORE_EXAMPLES["indices"], "loss": {"name": "cross_entropy"}, "labels": [1.0, 0.0]},
}
RANK_EXAMPLES: dict[str, Any] = {
    "tails": {"head": "aspirin", "relation": "treats", "candidates": ["headache", "broken leg", "aspirin"], "top_k": 2},
    "heads": {"relation": "treats", "tail": "headache", "candidates": ["aspirin", "headache"]},
    "indices": {
        "entities": _QUERY["entities"],
        "relations": _QUERY["relations"],
        "query": [0, 0],
        "side": 0,
        "candidates": [1, 0],
        "readout": "likelihood",
    },
}
ENCODE_EXAMPLES: dict[str, Any] = {"both sides": _QUERY, "an inner layer": {**_QUERY, "layer": "middle"}}
GRADIENT_EXAMPLES: dict[str, Any] = {
    f"hidden size {HIDDEN}": {**_QUERY, "grad_states": [[1.0] + [0.0] * (HIDDEN - 1), [0.0] * HIDDEN]}
}
