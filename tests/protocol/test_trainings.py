from typing import Any

import pytest
from pydantic import ValidationError

from protocol.tensors import TensorSpec
from protocol.trainings import Dense, TrainingSettings, model_tensors

SCORER = {"model": "embedded", "revision": "abc", "dtype": "float32", "query_hash": "def", "hidden": 64}


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
        ({"interaction": "transe", "deadline_seconds": 604_801}, "deadline_seconds"),
        ({"interaction": "llama", "local": {"readout": "verdict", "label_smoothing": 0.1}}, "local"),
        ({"interaction": "transe", "tie_tolerance": 1.0}, "tie_tolerance"),
        ({"interaction": "transe", "tie_tolerance": -0.001}, "tie_tolerance"),
        ({"interaction": "transe", "tie_tolerance": float("nan")}, "tie_tolerance"),
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


def test_the_tensors_of_a_share_are_entities_and_the_dense_ones_by_name() -> None:
    dense = {"mlp.bias": Dense(shape=[7]), "w": Dense(shape=[2, 3])}
    settings = TrainingSettings(interaction="mlp", dim=4, dense=dense)
    assert model_tensors(settings, 9) == {
        "entities": TensorSpec("F32", (9, 4)),
        "dense.mlp.bias": TensorSpec("F32", (7,)),
        "dense.w": TensorSpec("F32", (2, 3)),
    }
