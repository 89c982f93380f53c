import stat
from pathlib import Path

import pytest

from trainer.keys import KeyUnusable, begin_rotation, end_rotation, next_key, present_key


def silent(text: str) -> None:
    raise AssertionError(text)


def test_a_key_is_made_once_and_is_its_owner_s_alone(tmp_path: Path) -> None:
    home = tmp_path / "new" / "home"
    made = present_key(home, silent)
    assert present_key(home, silent).public_key == made.public_key
    (file,) = home.iterdir()
    assert (file.name, stat.S_IMODE(file.stat().st_mode)) == ("key.pem", 0o600)
    assert file.read_text().startswith("-----BEGIN PRIVATE KEY-----")
    assert present_key(tmp_path / "other", silent).public_key != made.public_key


def test_a_key_that_others_can_read_is_told_of(tmp_path: Path) -> None:
    made = present_key(tmp_path, silent)
    (tmp_path / "key.pem").chmod(0o640)
    said: list[str] = []
    assert present_key(tmp_path, said.append).public_key == made.public_key
    (told,) = said
    assert f"chmod 600 {tmp_path / 'key.pem'}" in told


@pytest.mark.parametrize("content", [b"", b"-----BEGIN PRIVATE KEY-----\n", b"\xff\x00"])
def test_a_file_that_holds_no_key_is_named_and_left(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "key.pem"
    file.write_bytes(content)
    file.chmod(0o600)
    with pytest.raises(KeyUnusable, match=r"key\.pem: not an Ed25519 private key"):
        present_key(tmp_path, silent)
    assert file.read_bytes() == content


def test_a_rotation_keeps_both_keys_until_it_ends(tmp_path: Path) -> None:
    former = present_key(tmp_path, silent)
    assert next_key(tmp_path, silent) is None
    following = begin_rotation(tmp_path, silent)
    assert following.public_key != former.public_key
    # As after a kill: it goes on with the same key.
    assert begin_rotation(tmp_path, silent).public_key == following.public_key
    assert present_key(tmp_path, silent).public_key == former.public_key
    assert stat.S_IMODE((tmp_path / "key-next.pem").stat().st_mode) == 0o600
    end_rotation(tmp_path)
    assert present_key(tmp_path, silent).public_key == following.public_key
    assert next_key(tmp_path, silent) is None
