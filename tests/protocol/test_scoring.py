import json
from typing import Any

import numpy as np
import pytest
from pydantic import BaseModel, ValidationError

from protocol import encoding, tensors
from protocol.encoding import EncodeGradientRequest, EncodeHeader, EncodeRequest
from protocol.messages import RowText
from protocol.problems import InvalidRequest
from protocol.ranking import RankRequest
from protocol.scoring import ScoreGradientRequest, ScoreHeader, ScoreRequest

SLOT = {"name": "aspirin"}
VECTORS = {"vectors": [[0.5, 1.0]]}
TRIPLES = {"entities": [VECTORS], "relations": [SLOT], "triples": [[0, 0, 0], [0, 0, 0]]}
INDICES = {"entities": [SLOT], "relations": [SLOT], "query": [0, 0], "candidates": [0, 0]}
ENCODE = {"entities": [VECTORS], "relations": [SLOT], "queries": [[0, 0]]}


@pytest.mark.parametrize(
    ("model", "content"),
    [
        (ScoreRequest, {"entities": [SLOT, VECTORS], "relations": [SLOT | VECTORS], "triples": [[0, 0, 1]]}),
        (ScoreRequest, {"triples": [{"head": "aspirin", "relation": "treats", "tail": "headache"}]}),
        (ScoreRequest, TRIPLES | {"readout": "number", "vectors_as": "numbers", "keep": False}),
        (ScoreGradientRequest, TRIPLES | {"grad_scores": [0.5, -1.0]}),
        (ScoreGradientRequest, TRIPLES | {"loss": {"name": "margin_ranking", "margin": 1.0}, "groups": [0, 0]}),
        (ScoreGradientRequest, TRIPLES | {"loss": {"name": "cross_entropy"}, "labels": [0.0, 1.0]}),
        (RankRequest, {"head": "aspirin", "relation": "treats", "candidates": ["a", "b"], "top_k": 1}),
        (RankRequest, {"tail": "headache", "relation": "treats", "candidates": ["a"], "readout": "likelihood"}),
        (RankRequest, INDICES | {"side": 1}),
        (EncodeRequest, ENCODE | {"layer": "middle", "keep": True}),
        (EncodeRequest, ENCODE | {"sides": [1]}),
        (EncodeGradientRequest, ENCODE | {"grad_states": [[0.1, 0.2]]}),
        (ScoreHeader, {"template": "head", "entity_texts": {"3": {"name": "x", "text_only": True}}}),
        (EncodeHeader, {"relation_texts": {"0": {"description": "what it does"}}}),
    ],
)
def test_a_request_crosses_the_wire_unchanged(model: type[BaseModel], content: dict[str, Any]) -> None:
    request = model.model_validate(content)
    assert model.model_validate_json(request.model_dump_json()) == request
    assert request.model_dump(mode="json", exclude_unset=True) == content


@pytest.mark.parametrize(
    ("model", "content"),
    [
        (ScoreRequest, {"entities": [{}], "triples": [[0, 0, 0]]}),
        (ScoreRequest, {"entities": [{"vectors": []}], "triples": [[0, 0, 0]]}),
        (ScoreRequest, {"entities": [{"name": ""}], "triples": [[0, 0, 0]]}),
        (ScoreRequest, {"entities": [SLOT], "triples": []}),
        (ScoreRequest, {"entities": [SLOT], "triples": [[0, 0, -1]]}),
        (ScoreRequest, {"entities": [SLOT], "triples": [[0, 0]]}),
        (ScoreRequest, {"triples": [[0, 0, 0]], "readout": "number of the beast"}),
        (ScoreRequest, {"triples": [{"head": "a", "relation": "b"}]}),
        (ScoreRequest, {"triples": [{"head": "a", "relation": "b", "tail": "c"}], "tempalte": "x"}),
        (ScoreGradientRequest, TRIPLES),
        (ScoreGradientRequest, TRIPLES | {"grad_scores": [1.0, 1.0], "readout": "likelihood"}),
        (ScoreGradientRequest, TRIPLES | {"grad_scores": [1.0, 1.0], "vectors_as": "numbers"}),
        (ScoreGradientRequest, TRIPLES | {"grad_scores": [1.0, 1.0], "groups": [0, 0]}),
        (ScoreGradientRequest, TRIPLES | {"grad_scores": [1.0, 1.0], "loss": {"name": "cross_entropy"}}),
        (ScoreGradientRequest, TRIPLES | {"loss": {"name": "margin_ranking"}, "labels": [0.0, 1.0]}),
        (ScoreGradientRequest, TRIPLES | {"loss": {"name": "cross_entropy"}, "labels": [0.0, 1.5]}),
        (ScoreGradientRequest, TRIPLES | {"loss": {"name": "cross_entropy"}, "labels": [0, 1], "readout": "number"}),
        (RankRequest, {"head": "a", "tail": "b", "relation": "r", "candidates": ["c"]}),
        (RankRequest, {"head": "a", "relation": "r", "candidates": [0]}),
        (RankRequest, {"head": "a", "candidates": ["c"]}),
        (RankRequest, {"head": "a", "relation": "r", "side": 1, "candidates": ["c"]}),
        (RankRequest, INDICES | {"head": "a"}),
        (RankRequest, INDICES | {"candidates": []}),
        (RankRequest, INDICES | {"top_k": 0}),
        (EncodeRequest, ENCODE | {"layer": 0}),
        (EncodeRequest, ENCODE | {"layer": "first"}),
        (EncodeRequest, ENCODE | {"templates": ["tail"]}),
        (EncodeRequest, ENCODE | {"sides": [2]}),
        (EncodeRequest, ENCODE | {"entities": []}),
        (EncodeGradientRequest, ENCODE),
        (EncodeHeader, {"entity_texts": {"-1": SLOT}}),
        (EncodeHeader, {"entity_texts": {"first": SLOT}}),
    ],
)
def test_a_request_that_says_nothing_or_something_unknown_is_refused(
    model: type[BaseModel], content: dict[str, Any]
) -> None:
    with pytest.raises(ValidationError):
        model.model_validate(content)


def test_a_header_points_at_rows_by_number() -> None:
    header = EncodeHeader.model_validate_json('{"entity_texts": {"12": {"name": "aspirin"}}}')
    assert header.entity_texts == {12: RowText(name="aspirin")}


def call(**changes: tensors.Array) -> dict[str, tensors.Array]:
    arrays = {
        "entities": np.zeros((3, 2, 4), dtype=np.float32),
        "relations": np.zeros((2, 1, 4), dtype=np.float32),
        "queries": np.zeros((5, 2), dtype=np.int32),
        "sides": np.zeros(5, dtype=np.uint8),
        "grad_states": np.zeros((5, 4), dtype=np.float32),
    }
    return arrays | changes


def test_entities_and_relations_may_have_different_numbers_of_vectors() -> None:
    decoded, _ = tensors.decode(tensors.encode(call()), encoding.ENCODE_GRADIENT_TENSORS, {"hidden": 4})
    assert decoded.keys() == call().keys()


@pytest.mark.parametrize(
    ("at_fault", "shape"),
    [
        ("relations", (2, 1, 5)),
        ("sides", (4,)),
        ("grad_states", (6, 4)),
        ("grad_states", (5, 3)),
        ("queries", (5, 3)),
    ],
)
def test_tensors_of_one_call_that_do_not_fit_together_are_refused(at_fault: str, shape: tuple[int, ...]) -> None:
    changed = np.zeros(shape, dtype=call()[at_fault].dtype)
    with pytest.raises(InvalidRequest) as refusal:
        tensors.decode(tensors.encode(call(**{at_fault: changed})), encoding.ENCODE_GRADIENT_TENSORS)
    assert refusal.value.errors[0].field == at_fault


@pytest.mark.parametrize("triple", [[True, 0, 0], ["0", 0, 0], [0.5, 0, 0], [-1, 0, 0]])
def test_an_index_is_a_whole_number_and_nothing_that_could_pass_for_one(triple: list[object]) -> None:
    with pytest.raises(ValidationError):
        ScoreRequest.model_validate_json(json.dumps({"triples": [triple]}))


@pytest.mark.parametrize("number", ["1", True, None])
def test_a_vector_holds_numbers_and_nothing_that_could_pass_for_one(number: object) -> None:
    with pytest.raises(ValidationError):
        ScoreRequest.model_validate_json(json.dumps({"entities": [{"vectors": [[number]]}], "triples": [[0, 0, 0]]}))
