from typing import Any

import pytest
from pydantic import ValidationError

from protocol.federation import (
    Dense,
    Evaluation,
    JoinRequest,
    Metrics,
    TrainingSettings,
    UpdateHeader,
    model_tensors,
)
from protocol.tensors import TensorSpec

SCORER = {"model": "embedded", "revision": "abc", "dtype": "float32", "query_hash": "def", "hidden": 64}
KEYS = [f"{i:064x}" for i in range(3)]
JOIN = {
    "name": "clinic",
    "public_key": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo",
    "entities": KEYS,
    "triples": {"train": 5, "valid": 0, "test": 1},
}
METRICS = {"mrr": 0.5, "hits@1": 0.25, "hits@3": 0.5, "hits@10": 1.0}
EVALUATION = {"mode": "federation", "split": "valid", "triples": 3, "sides": {"both": METRICS}}


@pytest.mark.parametrize(
    ("fields", "at_fault"),
    [
        ({"interaction": "llama"}, "scorer"),
        ({"interaction": "transe", "scorer": SCORER}, "scorer"),
        ({"interaction": "complex", "dim": 5}, "dim"),
        ({"interaction": "rotate", "dim": 5}, "dim"),
        ({"interaction": "transe", "clients": 2, "quorum": 3}, "quorum"),
        ({"interaction": "mlp", "dense": {"Not a name": {"shape": [1]}}}, "dense"),
        ({"interaction": "mlp", "dense": {"big": {"shape": [1 << 14, 1 << 14]}}}, "dense.big.shape"),
        ({"interaction": "mlp", "dense": {f"d{i}": {"shape": [1]} for i in range(33)}}, "dense"),
        ({"interaction": "transe", "fraction": 0}, "fraction"),
        ({"interaction": "transe", "local": {"learning_rate": 0}}, "local.learning_rate"),
        ({"interaction": "transe", "local": {"dropout": 1}}, "local.dropout"),
        ({"interaction": "transe", "deadline": 60}, "deadline"),
        ({"interaction": "tranze"}, "interaction"),
        ({}, "interaction"),
    ],
)
def test_settings_that_cannot_be_trained_are_refused(fields: dict[str, Any], at_fault: str) -> None:
    with pytest.raises(ValidationError) as refusal:
        TrainingSettings.model_validate(fields)
    (error,) = refusal.value.errors()
    assert at_fault in (".".join(map(str, error["loc"])) or error["msg"])


@pytest.mark.parametrize(
    "fields",
    [
        {"interaction": "transe", "dim": 5},
        {"interaction": "llama", "scorer": SCORER, "dense": {"adapter.entity": {"shape": [2, 3], "init": 0.5}}},
        {"interaction": "complex", "dim": 6, "clients": 3, "quorum": 3},
    ],
)
def test_settings_cross_the_wire_unchanged(fields: dict[str, Any]) -> None:
    settings = TrainingSettings.model_validate(fields)
    assert TrainingSettings.model_validate_json(settings.model_dump_json()) == settings
    assert settings.model_dump(exclude_unset=True).keys() == fields.keys()


def test_metrics_are_written_under_the_names_that_papers_use() -> None:
    metrics = Metrics(mrr=0.5, hits_at_1=0.25, hits_at_3=0.5, hits_at_10=1)
    assert metrics.model_dump() == METRICS
    assert Metrics.model_validate_json(metrics.model_dump_json()) == metrics
    assert '"hits@10":1.0' in metrics.model_dump_json()


@pytest.mark.parametrize("change", [{"mrr": 1.01}, {"mrr": float("nan")}, {"hits@3": -0.1}, {"hits@5": 0.5}])
def test_metrics_out_of_range_or_unknown_are_refused(change: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        Metrics.model_validate(METRICS | change)


def test_an_evaluation_crosses_the_wire() -> None:
    evaluation = Evaluation.model_validate(EVALUATION)
    assert Evaluation.model_validate_json(evaluation.model_dump_json()) == evaluation


@pytest.mark.parametrize(
    "change", [{"sides": {"tail": METRICS}}, {"sides": {}}, {"triples": 0}, {"split": "train"}, {"mode": "alone"}]
)
def test_an_evaluation_that_selects_nothing_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Evaluation.model_validate(EVALUATION | change)


def test_a_join_keeps_the_order_of_the_entities() -> None:
    request = JoinRequest.model_validate(JOIN | {"entities": KEYS[::-1]})
    assert JoinRequest.model_validate_json(request.model_dump_json()).entities == KEYS[::-1]


@pytest.mark.parametrize(
    "change",
    [
        {"entities": [KEYS[0], KEYS[1], KEYS[0]]},
        {"entities": ["aspirin"]},
        {"entities": [KEYS[0].upper().replace("0", "A")]},
        {"entities": []},
        {"public_key": "short"},
        {"name": ""},
        {"triples": {"train": -1}},
        {"triples": {"dev": 1}},
        {"relations": ["treats"]},
        {"relations": [KEYS[0], KEYS[0]]},
    ],
)
def test_a_join_that_says_too_much_or_too_little_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        JoinRequest.model_validate(JOIN | change)


@pytest.mark.parametrize("change", [{"triples": 0}, {"loss": float("nan")}, {"loss": float("inf")}])
def test_an_update_without_triples_or_with_a_lost_loss_is_refused(change: dict[str, Any]) -> None:
    UpdateHeader.model_validate({"triples": 1, "loss": -0.5})
    with pytest.raises(ValidationError):
        UpdateHeader.model_validate({"triples": 1, "loss": -0.5} | change)


def test_the_tensors_of_a_share_are_entities_and_the_dense_ones_by_name() -> None:
    dense = {"mlp.bias": Dense(shape=[7]), "w": Dense(shape=[2, 3])}
    settings = TrainingSettings(interaction="mlp", dim=4, dense=dense)
    assert model_tensors(settings, 9) == {
        "entities": TensorSpec("F32", (9, 4)),
        "dense.mlp.bias": TensorSpec("F32", (7,)),
        "dense.w": TensorSpec("F32", (2, 3)),
    }
