import io
import json
import pickle
import zipfile
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from protocol.problems import InvalidRequest
from protocol.tensors import DTYPES, MAX_HEADER_BYTES, MAX_TENSORS, TensorSpec, decode, encode

SPECS = {
    "vectors": TensorSpec("F32", ("n", 2)),
    "triples": TensorSpec("I32", ("n",)),
    "sides": TensorSpec("U8", ("s",), optional=True),
}
VECTORS = np.array([[1.5, -2], [3, 4e30]], dtype=np.float32)
TRIPLES = np.array([7, -8], dtype=np.int32)
MESSAGE = {"template": "Ω", "nested": {"a": [1, None]}}
VALID = encode({"vectors": VECTORS, "triples": TRIPLES}, MESSAGE)


def body(header: Any, data: bytes = b"", size: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return (len(text) if size is None else size).to_bytes(8, "little") + text + data


def archive() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as made:
        made.writestr("vectors.npy", "x" * 100)
    return file.getvalue()


def valid_but(**changes: Any) -> bytes:
    tensors = {"vectors": VECTORS, "triples": TRIPLES} | changes
    return encode({name: array for name, array in tensors.items() if array is not None})


def test_tensors_and_message_come_back_as_they_were() -> None:
    sides = np.array([0, 255], dtype=np.uint8)
    tensors, message = decode(encode({"vectors": VECTORS, "triples": TRIPLES, "sides": sides}, MESSAGE), SPECS)
    assert message == MESSAGE
    for name, sent in (("vectors", VECTORS), ("triples", TRIPLES), ("sides", sides)):
        assert tensors[name].dtype == sent.dtype
        np.testing.assert_array_equal(tensors[name], sent)


def test_arrays_that_are_not_contiguous_travel_by_value() -> None:
    transposed = np.arange(6, dtype=np.float32).reshape(2, 3).T
    assert not transposed.flags.c_contiguous
    received, _ = decode(encode({"x": transposed}), {"x": TensorSpec("F32", (3, 2))})
    np.testing.assert_array_equal(received["x"], transposed)


def test_an_absent_message_is_empty_and_an_optional_tensor_may_be_absent() -> None:
    tensors, message = decode(valid_but(), SPECS)
    assert message == {}
    assert set(tensors) == {"vectors", "triples"}


def test_a_batch_of_none_is_a_batch() -> None:
    empty = encode({"vectors": VECTORS[:0], "triples": TRIPLES[:0]})
    assert decode(empty, SPECS)[0]["vectors"].shape == (0, 2)


REFUSED = {
    "empty": (b"", "body"),
    "shorter than a length": (VALID[:7], "body"),
    "cut in the header": (VALID[:40], "body"),
    "cut in the numbers": (VALID[:-1], "body"),
    "bytes left over": (VALID + b"\0", "body"),
    "length that lies a little": (body({}, size=3), "body"),
    "length that lies a lot": (body({}, size=2**64 - 1), "body"),
    "header not JSON": (body(b"not json"), "body"),
    "header not UTF-8": (body(b"\xff\xff"), "body"),
    "header a list": (body([]), "body"),
    "header nested deeply": (body(b"[" * 200_000), "body"),
    "header a number without end": (body(b"9" * 10_000), "body"),
    "pickle": (pickle.dumps({"vectors": VECTORS}), "body"),
    "zip": (archive(), "body"),
    "too many tensors": (encode({f"t{i}": TRIPLES for i in range(MAX_TENSORS + 1)}), "body"),
    "unknown tensor": (valid_but(other=TRIPLES), "other"),
    "missing tensor": (valid_but(triples=None), "triples"),
    "wrong dtype": (valid_but(vectors=VECTORS.view(np.int32)), "vectors"),
    "wrong integer": (valid_but(triples=TRIPLES.astype(np.float32)), "triples"),
    "wrong number of dimensions": (valid_but(vectors=VECTORS[0]), "vectors"),
    "wrong fixed size": (valid_but(vectors=VECTORS[:, :1].copy()), "vectors"),
    "named sizes that differ": (valid_but(triples=TRIPLES[:1]), "triples"),
    "NaN": (valid_but(vectors=np.array([[np.nan, 1], [1, 1]], dtype=np.float32)), "vectors"),
    "infinity": (valid_but(vectors=np.array([[1, 1], [1, -np.inf]], dtype=np.float32)), "vectors"),
    "entry no object": (body({"vectors": 3, "triples": 3}), "vectors"),
    "shape no list": (body({"vectors": {"dtype": "F32", "shape": "2", "data_offsets": [0, 0]}}), "vectors"),
    "negative size": (body({"vectors": {"dtype": "F32", "shape": [-1, 2], "data_offsets": [0, 0]}}), "vectors"),
    "message not JSON": (body({"__metadata__": {"message": "{"}}), "message"),
    "message no object": (body({"__metadata__": {"message": "[]"}}), "message"),
    "message no text": (body({"__metadata__": {"message": 5}}), "message"),
    "message nested deeply": (body({"__metadata__": {"message": "[" * 200_000}}), "message"),
}


@pytest.mark.parametrize(("sent", "field"), REFUSED.values(), ids=REFUSED)
def test_a_refusal_names_what_is_at_fault(sent: bytes, field: str) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        decode(sent, SPECS)
    assert [error.field for error in refusal.value.errors] == [field]
    assert refusal.value.status == 422


def test_a_huge_header_is_refused_before_it_is_parsed() -> None:
    with pytest.raises(InvalidRequest, match=f"over {MAX_HEADER_BYTES} bytes"):
        decode(body(b" " * (MAX_HEADER_BYTES + 1)), SPECS)


def test_sizes_that_are_known_beforehand_are_held_to() -> None:
    assert decode(VALID, SPECS, {"n": 2})[0].keys() == {"vectors", "triples"}
    with pytest.raises(InvalidRequest, match=r"vectors: shape \[2, 2\]; expected \[n=3, 2\]"):
        decode(VALID, SPECS, {"n": 3})


@pytest.mark.parametrize("shape", [[1 << 40, 0], [0, 1 << 62], [0, 1 << 63]])
def test_a_tensor_cannot_claim_sizes_without_numbers(shape: list[int]) -> None:
    claims = {"x": {"dtype": "F32", "shape": shape, "data_offsets": [0, 0]}}
    with pytest.raises(InvalidRequest, match="holds no number"):
        decode(body(claims), {"x": TensorSpec("F32", ("n", "k"))})


def decodes_or_refuses(sent: bytes) -> None:
    try:
        tensors, message = decode(sent, SPECS)
    except InvalidRequest as refusal:
        refusal.document().model_dump_json().encode()
        return
    assert isinstance(message, dict)
    assert {"vectors", "triples"} <= set(tensors) <= set(SPECS)
    for name, tensor in tensors.items():
        assert tensor.dtype == DTYPES[SPECS[name].dtype]
        assert np.isfinite(tensor).all()
    assert tensors["vectors"].shape == (len(tensors["triples"]), 2)


@settings(deadline=None, database=None, max_examples=200)
@given(st.binary(max_size=200))
def test_random_bytes_decode_or_are_refused(sent: bytes) -> None:
    decodes_or_refuses(sent)


EDITS = st.lists(st.tuples(st.integers(0, len(VALID) - 1), st.integers(0, 255)), max_size=4)


@settings(deadline=None, database=None, max_examples=500)
@given(EDITS, st.integers(0, len(VALID)), st.binary(max_size=4))
def test_mutated_bodies_decode_or_are_refused(edits: list[tuple[int, int]], cut: int, more: bytes) -> None:
    sent = bytearray(VALID)
    for place, value in edits:
        sent[place] = value
    decodes_or_refuses(bytes(sent) + more)
    decodes_or_refuses(bytes(sent[:cut]) + more)


ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=6)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | ANY_TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(ANY_TEXT, inner, max_size=3),
    max_leaves=6,
)
ENTRY = st.fixed_dictionaries(
    {
        "dtype": st.sampled_from(["F32", "I32", "U8", "F64", None]),
        "shape": st.lists(st.integers(-1, 3), max_size=3) | JSON,
        "data_offsets": st.lists(st.integers(-1, 40), min_size=2, max_size=2) | JSON,
    }
)
NAMES = st.sampled_from([*SPECS, "__metadata__"]) | ANY_TEXT


@settings(deadline=None, database=None, max_examples=500)
@example({"\ud800": None}, b"")
@example({"__metadata__": {"message": '{"\ud800": 1}'}}, b"")
@given(st.dictionaries(NAMES, ENTRY | JSON, max_size=4), st.binary(max_size=40))
def test_headers_made_up_decode_or_are_refused(header: dict[str, Any], data: bytes) -> None:
    decodes_or_refuses(body(header, data))
