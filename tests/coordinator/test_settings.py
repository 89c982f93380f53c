from pathlib import Path

import pytest
from pydantic import ValidationError

from services.coordinator.settings import CoordinatorSettings

from .support import INVITATION, OPERATOR


def test_every_field_is_described() -> None:
    assert all(field.description for field in CoordinatorSettings.model_fields.values())


def test_tokens_may_come_from_files(tmp_path: Path) -> None:
    (tmp_path / "operator").write_text(OPERATOR + "\n")
    settings = CoordinatorSettings.model_validate(
        {"operator_token_file": tmp_path / "operator", "invitation_token": INVITATION}
    )
    assert (settings.operator(), settings.invitation()) == (OPERATOR, INVITATION)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"operator_token": None}, "exactly one of COORDINATOR_OPERATOR_TOKEN and"),
        ({"invitation_token_file": "/x"}, "exactly one of COORDINATOR_INVITATION_TOKEN and"),
        ({"operator_token": "short"}, "at least 16 characters"),
        ({"operator_token": None, "operator_token_file": "/nowhere/token"}, "cannot read /nowhere/token"),
        ({"operator_token": INVITATION}, "must differ"),
    ],
)
def test_unusable_tokens_are_refused(changes: dict[str, str | None], reason: str) -> None:
    values = {"operator_token": OPERATOR, "invitation_token": INVITATION} | changes
    with pytest.raises(ValidationError, match=reason) as caught:
        CoordinatorSettings.model_validate(values)
    assert INVITATION not in str(caught.value)
    assert OPERATOR not in str(caught.value)


def test_tokens_are_not_shown() -> None:
    settings = CoordinatorSettings.model_validate({"operator_token": OPERATOR, "invitation_token": INVITATION})
    assert OPERATOR not in repr(settings)
