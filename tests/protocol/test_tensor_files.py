import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from protocol.problems import InvalidRequest
from protocol.tensor_files import PIECE, TensorWriter, open_tensors
from protocol.tensor_headers import TensorSpec
from protocol.tensors import Array, encode

ROWS = np.random.default_rng(0).normal(size=(1000, 300)).astype(np.float32)
COUNTS = np.arange(1000, dtype=np.int32)
SPECS = {"rows": TensorSpec("F32", ("n", 300)), "counts": TensorSpec("I32", ("n",))}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    made = tmp_path / "made.safetensors"
    made.write_bytes(encode({"rows": ROWS, "counts": COUNTS}, {"loss": 0.5}))
    return made


@pytest.fixture(autouse=True)
def every_file_is_closed() -> Iterator[None]:
    before = os.listdir("/proc/self/fd")
    yield
    assert len(os.listdir("/proc/self/fd")) == len(before)


def test_parts_of_a_file(path: Path) -> None:
    assert ROWS.size > PIECE
    picked = np.array([999, 3, 3, 500])
    with open_tensors(path, SPECS) as file:
        assert file.message == {"loss": 0.5}
        assert np.array_equal(file.rows("rows", 10, 20), ROWS[10:20])
        assert np.array_equal(file.take("rows", picked), ROWS[picked])
        assert np.array_equal(file.take("counts", picked), picked)
        assert np.array_equal(file.read("counts", 7, 9), [7, 8])
        assert file.rows("rows", 5, 5).shape == (0, 300)
        assert np.array_equal(np.concatenate(list(file.pieces("rows"))), ROWS.ravel())


def test_what_was_taken_outlives_the_file(path: Path) -> None:
    with open_tensors(path, SPECS) as file:
        rows = file.take("rows", np.array([1]))
    path.unlink()
    assert np.array_equal(rows, ROWS[1:2])


@pytest.mark.parametrize("dtype", ["F16", "BF16"])
def test_halves_are_read_as_floats(tmp_path: Path, dtype: str) -> None:
    path = tmp_path / "halves"
    path.write_bytes(encode({"rows": ROWS}, dtype=dtype))
    assert path.stat().st_size < ROWS.nbytes / 2 + 200
    with open_tensors(path, {"rows": TensorSpec(dtype, (1000, 300))}) as file:
        file.check(10)
        for rows in (file.rows("rows", 5, 9), file.take("rows", np.arange(5, 9))):
            assert rows.dtype == np.float32
            np.testing.assert_allclose(rows, ROWS[5:9], rtol=2**-8)


def test_files_of_the_safetensors_library_are_read_and_written_for_it(tmp_path: Path) -> None:
    theirs, ours = tmp_path / "theirs", tmp_path / "ours"
    save_file({"rows": ROWS, "counts": COUNTS}, theirs)
    with open_tensors(theirs, SPECS) as file, TensorWriter(ours, {"rows": ("F32", ROWS.shape)}) as writer:
        assert np.array_equal(file.take("counts", np.array([5, 4])), [5, 4])
        for start in reversed(range(0, 1000, 170)):
            writer.write("rows", start * 300, file.rows("rows", start, min(start + 170, 1000)))
    assert np.array_equal(load_file(ours)["rows"], ROWS)


def with_value(name: str, value: float) -> dict[str, Array]:
    tensors = {"rows": ROWS.copy(), "counts": COUNTS.copy()}
    tensors[name].flat[-1] = value
    return tensors


REFUSED = {
    "NaN": ("rows", np.nan),
    "infinity": ("rows", np.inf),
    "minus infinity": ("rows", -np.inf),
    "beyond the limit": ("rows", 100.1),
    "below it": ("rows", -100.1),
    "negative count": ("counts", -1),
    "count that cannot be": ("counts", 1001),
}


@pytest.mark.parametrize(("name", "value"), REFUSED.values(), ids=REFUSED)
def test_a_number_that_cannot_be_is_found_wherever_it_stands(tmp_path: Path, name: str, value: float) -> None:
    path = tmp_path / "bad"
    path.write_bytes(encode(with_value(name, value)))
    with open_tensors(path, SPECS) as file, pytest.raises(InvalidRequest) as refusal:
        file.check(100, largest=1000)
    assert [error.field for error in refusal.value.errors] == [name]


def test_numbers_at_the_limits_are_fine(tmp_path: Path) -> None:
    path = tmp_path / "good"
    path.write_bytes(encode(with_value("rows", -100) | {"counts": with_value("counts", 1000)["counts"]}))
    with open_tensors(path, SPECS) as file:
        file.check(100, largest=1000)


def test_a_file_that_is_cut_or_of_other_tensors_is_refused(tmp_path: Path, path: Path) -> None:
    whole = path.read_bytes()
    cut = tmp_path / "cut"
    for bad in (b"", whole[:7], whole[:30], whole[:-1], whole + b"\0", (1 << 40).to_bytes(8, "little") + whole):
        cut.write_bytes(bad)
        with pytest.raises(InvalidRequest) as refusal:
            open_tensors(cut, SPECS)
        assert refusal.value.errors[0].field == "body"
    with pytest.raises(InvalidRequest, match="expected F16"):
        open_tensors(path, SPECS | {"rows": TensorSpec("F16", ("n", 300))})
    with pytest.raises(InvalidRequest, match="over 20 bytes"):
        open_tensors(path, SPECS, header_bytes=20)
    with pytest.raises(FileNotFoundError):
        open_tensors(tmp_path / "none", SPECS)
