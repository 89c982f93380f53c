from pathlib import Path

import pytest
from pydantic import SecretStr

from services.tokens import MIN_TOKEN_LENGTH, read_token

TOKEN = "t" * MIN_TOKEN_LENGTH


def test_a_token_comes_from_its_setting_or_its_file_without_the_space_around_it(tmp_path: Path) -> None:
    (tmp_path / "token").write_text(f"  {TOKEN}\n")
    assert read_token("NAME", None, tmp_path / "token") == TOKEN
    assert read_token("NAME", SecretStr(f" {TOKEN} "), None) == TOKEN


def test_what_is_unusable_is_told_without_the_token(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    (tmp_path / "short").write_text(TOKEN[1:])
    (tmp_path / "bytes").write_bytes(b"\xff" * 40)
    cases = [
        (None, None, "exactly one of NAME and NAME_FILE"),
        (SecretStr(TOKEN), tmp_path / "short", "exactly one of NAME and NAME_FILE"),
        (SecretStr(" " * 40), None, "NAME must have at least 16 characters"),
        (None, tmp_path / "empty", "NAME must have at least 16 characters"),
        (None, tmp_path / "short", "NAME must have at least 16 characters"),
        (None, tmp_path / "absent", f"NAME_FILE: cannot read {tmp_path / 'absent'}"),
        (None, tmp_path / "bytes", f"NAME_FILE: cannot read {tmp_path / 'bytes'}"),
        (None, tmp_path, f"NAME_FILE: cannot read {tmp_path}"),
    ]
    for value, file, reason in cases:
        with pytest.raises(ValueError, match=reason) as caught:
            read_token("NAME", value, file)
        assert TOKEN[1:] not in str(caught.value)
        assert "\n" not in str(caught.value)
