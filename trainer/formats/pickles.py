"""Pickles of integer arrays in lists and dicts, read without running anything: nothing that a pickle names is called.

A pickle is a program that calls what it names. Here each name that numpy's arrays need stands for a class of this
module that only keeps what it is given; every other name, and every opcode that arrays do not need, is refused. Bytes
become numbers afterwards, by rules of our own, so that nothing of a pickle reaches numpy's constructors.
"""

import io
import math
import pickle
import pickletools
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

MAX_BYTES = 1 << 30
"""Of a pickle: 22 million triples of six numbers of 8 bytes."""
MAX_TUPLES = 1 << 15
"""Of a pickle: those of 450 clients. As a dict's key, tuples in tuples take stack for each; it lasts for 100,000."""
_OPCODES = {
    *("PROTO", "FRAME", "STOP", "MARK", "MEMOIZE", "BINPUT", "LONG_BINPUT", "BINGET", "LONG_BINGET"),
    *("EMPTY_LIST", "APPEND", "APPENDS", "EMPTY_DICT", "SETITEM", "SETITEMS"),
    *("EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "NONE", "NEWTRUE", "NEWFALSE"),
    *("BININT", "BININT1", "BININT2", "LONG1", "LONG4", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
    *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8", "GLOBAL", "STACK_GLOBAL", "REDUCE", "BUILD"),
}
"""What lists, dicts, tuples, numbers, strings and arrays are made of, in protocols 3 to 5."""
_INTEGERS = ("i1", "i2", "i4", "i8", "u1", "u2", "u4")
_ORDERS: dict[object, Literal["<", ">", "|", "="]] = {"<": "<", ">": ">", "|": "|", "=": "="}
_SHOWN = 80
"""Characters of a name that an error shows."""


class Refused(Exception):
    """The pickle holds something else than integer arrays in lists and dicts; the message says what."""


class _Kept:
    """Stands for something of numpy's: keeps the arguments and the state that a pickle gives it, and does nothing."""

    def __init__(self, *arguments: object) -> None:
        self.arguments: tuple[object, ...] = arguments
        self.state: tuple[object, ...] = ()

    def __setstate__(self, state: object) -> None:
        if not isinstance(state, tuple):
            raise Refused("an array whose state is no tuple")
        self.state = state


class _Dtype(_Kept):
    def integer(self) -> "np.dtype[Any]":
        """The type of numpy's that it names."""
        code = self.arguments[0] if self.arguments else None
        order = self.state[1] if len(self.state) > 1 else "="
        if not isinstance(code, str) or not isinstance(order, str):
            raise Refused("an array whose type is none")
        if code not in _INTEGERS or order not in _ORDERS:
            raise Refused(f"an array of type {code[:_SHOWN]!r}; integers alone are read")
        return np.dtype(code).newbyteorder(_ORDERS[order])


class Array(_Kept):
    """An array that a pickle holds, as `numpy.ndarray` writes itself."""

    def numbers(self) -> NDArray[np.int64]:
        """The array, int64.

        Raises:
            Refused: It holds no integers, or not as many as its shape says.
        """
        if len(self.state) != 5:
            raise Refused("an array without content")
        _, shape, dtype, is_fortran, body = self.state
        return _numbers(body, dtype, shape, "F" if is_fortran is True else "C")


class _Buffered(Array):
    """An array as protocol 5 writes it: a buffer, its type, its shape, and the order of its axes."""

    def numbers(self) -> NDArray[np.int64]:
        if len(self.arguments) != 4:
            raise Refused("an array without content")
        body, dtype, shape, order = self.arguments
        return _numbers(body, dtype, shape, "F" if order == "F" else "C")


def _numbers(body: object, dtype: object, shape: object, order: Literal["C", "F"]) -> NDArray[np.int64]:
    if not isinstance(dtype, _Dtype):
        raise Refused("an array whose type is none")
    kind = dtype.integer()
    if not isinstance(body, bytes | bytearray):
        raise Refused("an array whose content is no bytes")
    if not isinstance(shape, tuple) or len(shape) not in (1, 2) or not all(isinstance(size, int) for size in shape):
        raise Refused("an array that has neither one nor two axes")
    if min(shape) < 0 or math.prod(shape) * kind.itemsize != len(body):
        raise Refused(f"an array whose {len(body)} bytes are not what its shape says")
    numbers: NDArray[np.int64] = np.frombuffer(body, kind).reshape(shape, order=order).astype(np.int64)
    return numbers


_NAMES: dict[tuple[str, str], object] = {
    ("numpy", "ndarray"): "ndarray",  # passed to _reconstruct, and never called
    ("numpy", "dtype"): _Dtype,
}
for _numpy in ("numpy.core", "numpy._core"):  # numpy 1, numpy 2
    _NAMES[f"{_numpy}.multiarray", "_reconstruct"] = Array
    _NAMES[f"{_numpy}.numeric", "_frombuffer"] = _Buffered


class _Unpickler(pickle.Unpickler):
    def find_class(self, module_name: str, global_name: str) -> Any:
        return _named(module_name, global_name)


def _named(module: str, name: str) -> object:
    if (module, name) not in _NAMES:
        raise Refused(f"it names {f'{module}.{name}'[:_SHOWN]!r}, which integer arrays do not need")
    return _NAMES[module, name]


def load(body: bytes) -> object:
    """What a pickle holds: lists, dicts, tuples, numbers and strings, and each array as an `Array`.

    Raises:
        Refused: It is damaged, or holds anything else. Nothing that it names has been called.
    """
    try:
        _check(body)
        return _Unpickler(io.BytesIO(body)).load()
    except Refused:
        raise
    except Exception as error:  # the documentation leaves open what a damaged pickle raises
        raise Refused(f"it is damaged ({type(error).__name__})") from error


def _check(body: bytes) -> None:
    """Look at every opcode before the first one is run."""
    tuples = 0
    for step, (opcode, argument, _) in enumerate(pickletools.genops(body)):
        if opcode.name not in _OPCODES:
            raise Refused(f"it holds the opcode {opcode.name}, which integer arrays do not need")
        tuples += opcode.name.startswith("TUPLE")
        if tuples > MAX_TUPLES:
            raise Refused(f"it holds more than {MAX_TUPLES} tuples")
        if opcode.name == "GLOBAL":
            module, _, name = str(argument).partition(" ")
            _named(module, name)
        # The unpickler makes room for as many places as the highest one's number.
        if opcode.name in ("BINPUT", "LONG_BINPUT") and int(str(argument)) > step:
            raise Refused("it keeps more than it holds")
