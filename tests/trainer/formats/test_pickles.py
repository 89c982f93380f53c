import io
import os
import pickle
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from trainer.formats.pickles import Array, Refused, load


class Calls:
    """Pickles as a call."""

    def __init__(self, function: Callable[..., object], *arguments: object) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return self.call


def canary(path: Path) -> Calls:
    return Calls(os.system, f"touch {path}")


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
@pytest.mark.parametrize(
    "around",
    [
        lambda evil: evil,
        lambda evil: [{"train": {"edge_index_ori": np.arange(3), "edge_type_ori": evil}}],
        lambda evil: [np.arange(3), {evil.call: 1}],
        lambda evil: np.array([evil], dtype=object),
    ],
    ids=["bare", "nested", "key", "object array"],
)
def test_nothing_that_a_pickle_names_is_called(
    tmp_path: Path, protocol: int, around: Callable[[Calls], object]
) -> None:
    spot = tmp_path / "canary"
    evil = canary(spot)
    body = pickle.dumps(around(evil), protocol)
    if around(evil) is evil:
        pickle.loads(body)
        assert spot.exists()
        spot.unlink()
    with pytest.raises(Refused):
        load(body)
    assert not spot.exists()


@pytest.mark.parametrize(
    "function",
    [eval, exec, getattr, np.load, np.frombuffer, np.dtype.__new__, pickle.loads, io.open],
    ids=lambda function: function.__qualname__,
)
def test_a_refusal_says_what_the_pickle_names(function: Callable[..., object]) -> None:
    body = pickle.dumps(Calls(function, "x"))
    with pytest.raises(Refused, match=r"it names '[\w.]+', which integer arrays do not need|no tuple|opcode"):
        load(body)


def array(body: bytes) -> np.ndarray:
    loaded = load(body)
    assert isinstance(loaded, Array)
    return loaded.numbers()


@pytest.mark.parametrize("protocol", [3, 4, 5])
@pytest.mark.parametrize("dtype", ["i1", "<i2", ">i4", "i8", "u1", "u4"])
@pytest.mark.parametrize("shape", [(6,), (2, 3), (0,), (2, 0)])
def test_integer_arrays_come_back(protocol: int, dtype: str, shape: tuple[int, ...]) -> None:
    expected = np.arange(np.prod(shape)).reshape(shape).astype(dtype)
    for given in (expected, np.asfortranarray(expected)):
        found = array(pickle.dumps(given, protocol))
        np.testing.assert_array_equal(found, expected)
        assert found.dtype == np.int64


@pytest.mark.parametrize("numpy", [b"numpy.core", b"numpy._core"])
@pytest.mark.parametrize("protocol", [3, 5])
def test_both_of_numpys_names_are_known(numpy: bytes, protocol: int) -> None:
    body = pickle.dumps(np.arange(3), protocol)
    if protocol == 5:  # names have their length before them, and frames theirs
        old = b"\x8c\x13numpy._core.numeric"
        assert old in body
        changed = b"\x8c" + bytes([len(numpy) + 8]) + numpy + b".numeric"
        size = struct.unpack("<Q", body[3:11])[0] + len(changed) - len(old)
        body = body[:3] + struct.pack("<Q", size) + body[11:].replace(old, changed)
    else:
        body = body.replace(b"cnumpy._core.multiarray", b"c" + numpy + b".multiarray")
    assert array(body).tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    "given",
    [
        np.array([1, "a", None], dtype=object),
        np.zeros(2, dtype=[("a", "O"), ("b", "i8")]),
        np.array(["a"]),
        np.array([1.5]),
        np.array([1j]),
        np.array([True]),
        np.array(["2020-01-01"], dtype="M8[D]"),
        np.zeros((1, 1, 1), dtype=np.int64),
        np.array(5),
    ],
    ids=lambda given: f"{given.dtype}-{given.ndim}",
)
@pytest.mark.parametrize("protocol", [3, 4, 5])
def test_other_arrays_are_refused(given: np.ndarray, protocol: int) -> None:
    with pytest.raises(Refused):
        array(pickle.dumps(given, protocol))


def test_a_state_that_says_integers_are_objects_reaches_nothing_of_numpys() -> None:
    # As numpy would, if it were asked, make pointers of these bytes.
    body = pickle.dumps(np.array([0x4141414141414141]), 3)
    assert body.count(b"i8") == 1
    with pytest.raises(Refused, match="an array of type 'O8'; integers alone are read"):
        array(body.replace(b"i8", b"O8"))


@pytest.mark.parametrize(("old", "new"), [(b"K\x03", b"K\x04"), (b"K\x03", b"K\x02"), (b"K\x03", b"J\xff\xff\xff\xff")])
def test_a_shape_that_lies_is_refused(old: bytes, new: bytes) -> None:
    body = pickle.dumps(np.arange(3), 3)
    before, found, after = body.partition(old + b"\x85")  # the shape, a tuple of one
    assert found
    with pytest.raises(Refused, match="are not what its shape says"):
        array(before + new + b"\x85" + after)


PROTOCOL = b"\x80\x04"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"no pickle",
        pickle.dumps([np.arange(100)])[:-20],
        PROTOCOL + b"]r\xff\xff\xff\x7f.",  # room for 2**31 things
        PROTOCOL + b"\x8e" + struct.pack("<Q", 1 << 62) + b"x.",  # 2**62 bytes follow, it says
        PROTOCOL + b"cnumpy\ndtype\n}b.",  # a state for the class itself
        PROTOCOL + b"cnumpy\nndarray\n)R.",
        PROTOCOL + b"cnumpy\nndarray\n)\x81.",  # NEWOBJ
        PROTOCOL + b"cnumpy\ndtype\n)R}\x8c\x09__class__K\x01sb.",
        pytest.param(PROTOCOL + b"})" + 1_000_000 * b"\x85" + b"K\x01s.", id="a key too deep to be hashed"),
        PROTOCOL + b"\x82\x01.",  # a name by its number
        PROTOCOL + b"Pid\n.",  # a persistent id
        pickle.dumps(np.random.default_rng(0)),
        pickle.dumps(np.int64(5)),
        pickle.dumps({1, 2}),
        pickle.dumps(bytearray(5), 5)[:-3] + b".",
    ],
)
def test_what_is_damaged_or_hostile_is_refused(body: bytes) -> None:
    with pytest.raises(Refused):
        load(body)


def test_an_array_without_content_is_refused() -> None:
    with pytest.raises(Refused, match="without content"):
        array(PROTOCOL + b"cnumpy.core.multiarray\n_reconstruct\n)R.")
    with pytest.raises(Refused, match="without content"):
        array(PROTOCOL + b"cnumpy.core.numeric\n_frombuffer\n)R.")


def test_errors_do_not_spell_out_what_is_nested_deeply() -> None:
    # A list that holds the one before it twice, sixty times over: written out, it would be longer than any memory.
    lists = b"]q\x00" + b"".join(b"](h%ch%ceq%c" % (i, i, i + 1) for i in range(60))
    kind = b"cnumpy\ndtype\nh\x3c\x85R"
    body = PROTOCOL + lists + b"cnumpy.core.numeric\n_frombuffer\n(C\x00" + kind + b"K\x00\x85\x8c\x01CtR."
    with pytest.raises(Refused, match="an array whose type is none"):
        array(body)
