from typing import Any

import pytest
from pydantic import ValidationError

from protocol.members import JoinRequest

KEYS = [f"{i:064x}" for i in range(3)]
JOIN = {
    "name": "clinic",
    "public_key": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo",
    "entities": KEYS,
    "triples": {"train": 5, "valid": 0, "test": 1},
}


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
        {"name": "a\x9b31mb"},
        {"name": "a\u202eb"},
        {"name": "a\u2067b"},
        {"triples": {"train": -1}},
        {"triples": {"dev": 1}},
        {"relations": ["treats"]},
        {"relations": [KEYS[0], KEYS[0]]},
    ],
)
def test_a_join_that_says_too_much_or_too_little_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        JoinRequest.model_validate(JOIN | change)
