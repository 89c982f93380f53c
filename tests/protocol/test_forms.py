from typing import Any

import pytest
from pydantic import ValidationError

from protocol.trainings import LocalSettings, TrainingSettings

SCORER = {"model": "embedded", "revision": "abc", "dtype": "float32", "query_hash": "def", "hidden": 64}


@pytest.mark.parametrize(
    ("form", "at_fault"),
    [
        ({"vectors": False}, "vectors"),
        ({"layer": "none", "texts": "names"}, "layer"),
        ({"layer": "none", "readout": "verdict"}, "layer"),
        ({"readout": "number", "vectors": False, "texts": "names"}, "vectors"),
        ({"readout": "verdict", "reciprocal": True}, "reciprocal"),
        ({"adapter": "none", "vectors_per_slot": 2}, "vectors_per_slot"),
        ({"layer": 0}, "layer"),
        ({"layer": "first"}, "layer"),
        ({"texts": "everything"}, "texts"),
        ({"readout": "likelihood"}, "readout"),
        ({"layer": "none", "templates": ["tail", "head"]}, "templates"),
        ({"templates": ["tail"]}, "templates"),
        ({"readout": "verdict", "templates": ["tail", "head"]}, "templates"),
        ({"templates": ["tail", "../head"]}, "templates"),
    ],
)
def test_forms_that_hold_or_train_nothing_are_refused(form: dict[str, Any], at_fault: str) -> None:
    with pytest.raises(ValidationError) as refusal:
        LocalSettings.model_validate(form)
    (error,) = refusal.value.errors()
    assert at_fault in (".".join(map(str, error["loc"])) or error["msg"].removeprefix("Value error, ").split(":")[0])


@pytest.mark.parametrize(
    ("fields", "at_fault"),
    [
        ({"dim": 32, "local": {"adapter": "none"}}, "dim: without an adapter it is the hidden size .*, 64"),
        ({"share": "both", "relation_dim": 64, "local": {"vectors": False, "texts": "names"}}, "share: relations"),
    ],
)
def test_a_training_fits_its_form(fields: dict[str, Any], at_fault: str) -> None:
    with pytest.raises(ValidationError, match=at_fault):
        TrainingSettings.model_validate({"interaction": "llama", "scorer": SCORER} | fields)


@pytest.mark.parametrize(
    "form",
    [
        {"texts": "anonymised", "vectors": False, "layer": 7},
        {"adapter": "none", "texts": "descriptions"},
        {"layer": "none", "adapter": "local", "vectors_per_slot": 4},
        {"readout": "verdict", "texts": "names", "templates": ["doubt"]},
        {"templates": ["mine", "mine_head"]},
    ],
)
def test_a_form_crosses_the_wire_unchanged(form: dict[str, Any]) -> None:
    settings = TrainingSettings.model_validate({"interaction": "llama", "scorer": SCORER, "dim": 64, "local": form})
    assert TrainingSettings.model_validate_json(settings.model_dump_json()) == settings
    assert settings.local.model_dump(exclude_unset=True) == form
