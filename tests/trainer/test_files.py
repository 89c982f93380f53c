import stat
from pathlib import Path

import numpy as np
import pytest

from trainer.files import Damaged, load_arrays, save_arrays, whole

ARRAYS = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "state": np.arange(5, dtype=np.uint8)}


def test_a_file_stands_once_it_is_whole(tmp_path: Path) -> None:
    file = tmp_path / "new" / "file"
    with whole(file) as out:
        out.write(b"half")
        assert not file.exists()
    assert file.read_bytes() == b"half"


def test_an_error_on_the_way_leaves_the_former_file_and_nothing_else(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("former")

    def fail() -> None:
        with whole(file) as out:
            out.write(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert file.read_text() == "former"


def test_what_a_killed_process_left_is_no_hindrance_and_lends_no_mode(tmp_path: Path) -> None:
    left = tmp_path / "key.tmp"
    left.write_text("half a ke")
    left.chmod(0o644)
    with whole(tmp_path / "key", mode=0o600) as out:
        out.write(b"key")
    (file,) = tmp_path.iterdir()
    assert (file.name, stat.S_IMODE(file.stat().st_mode)) == ("key", 0o600)


def test_arrays_come_back_with_their_message(tmp_path: Path) -> None:
    file = tmp_path / "deep" / "arrays.safetensors"
    save_arrays(file, ARRAYS, loss=0.1, data="d1")
    arrays, message = load_arrays(file)
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(arrays[name], array)
        assert arrays[name].dtype == array.dtype
    assert (message["loss"], message["data"]) == (0.1, "d1")
    assert [path.name for path in file.parent.iterdir()] == [file.name]


def test_no_arrays_at_all_come_back_too(tmp_path: Path) -> None:
    save_arrays(tmp_path / "none.safetensors", {})
    assert load_arrays(tmp_path / "none.safetensors")[0] == {}


@pytest.mark.parametrize("where", [0, 8, 30, 40, 60, 90, -1, -10])
def test_a_changed_byte_is_noticed(tmp_path: Path, where: int) -> None:
    file = tmp_path / "arrays.safetensors"
    save_arrays(file, ARRAYS, loss=0.1)
    body = bytearray(file.read_bytes())
    body[where] ^= 1
    file.write_bytes(body)
    with pytest.raises(Damaged, match=r"arrays\.safetensors: is damaged"):
        load_arrays(file)


@pytest.mark.parametrize("kept", [0, 7, 30, 200])
def test_a_file_that_ends_too_soon_is_noticed(tmp_path: Path, kept: int) -> None:
    file = tmp_path / "arrays.safetensors"
    save_arrays(file, ARRAYS)
    file.write_bytes(file.read_bytes()[:kept])
    with pytest.raises(Damaged):
        load_arrays(file)
