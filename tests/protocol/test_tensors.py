import io
import json
import pickle
import zipfile
from typing import Any

import numpy as np
import pytest
import torch
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


def of_bits(*bits: int) -> Any:
    return np.array(bits, np.uint32).view(np.float32)


def through(array: Any, dtype: str) -> Any:
    return decode(encode({"x": array}, dtype=dtype), {"x": TensorSpec(dtype, array.shape)})[0]["x"]


def test_bfloat16_rounds_to_the_nearest_and_halves_to_even() -> None:
    sent = of_bits(0x3F800000, 0x3F807FFF, 0x3F808000, 0x3F808001, 0x3F818000, 0xBF818000, 0x00000001, 0x7F7F7FFF)
    kept = of_bits(0x3F800000, 0x3F800000, 0x3F800000, 0x3F810000, 0x3F820000, 0xBF820000, 0x00000000, 0x7F7F0000)
    assert through(sent, "BF16").tobytes() == kept.tobytes()


@settings(deadline=None, database=None)
@given(st.lists(st.floats(-65504, 65504, width=32), min_size=1))
def test_bfloat16_is_what_torch_makes_of_it(values: list[float]) -> None:
    array = np.array(values, np.float32)
    assert through(array, "BF16").tobytes() == torch.from_numpy(array).bfloat16().float().numpy().tobytes()
    assert through(array, "F16").tobytes() == torch.from_numpy(array).half().float().numpy().tobytes()


@pytest.mark.parametrize("dtype", ["F16", "BF16"])
def test_integers_travel_whole_beside_halves(dtype: str) -> None:
    body = encode({"vectors": VECTORS / 1e30, "triples": TRIPLES}, dtype=dtype)
    tensors, _ = decode(body, SPECS | {"vectors": TensorSpec(dtype, ("n", 2))})
    assert np.array_equal(tensors["triples"], TRIPLES)
    assert tensors["vectors"].dtype == np.float32


@pytest.mark.parametrize(
    ("dtype", "value"),
    [("F16", 65520.0), ("F16", -1e6), ("F16", np.nan), ("BF16", 3.4e38), ("BF16", np.nan), ("BF16", -np.inf)],
)
def test_what_halves_cannot_hold_is_refused_where_it_is_sent(dtype: str, value: float) -> None:
    with pytest.raises(InvalidRequest, match="x: holds NaN or a number beyond"):
        encode({"x": np.array([1, value, 2], np.float32)}, dtype=dtype)


@pytest.mark.parametrize(("dtype", "bits"), [("F16", 0x7C00), ("F16", 0xFE00), ("BF16", 0x7F80), ("BF16", 0xFFC0)])
def test_halves_that_are_not_finite_are_refused(dtype: str, bits: int) -> None:
    header = {"x": {"dtype": dtype, "shape": [1], "data_offsets": [0, 2]}}
    with pytest.raises(InvalidRequest, match="x: holds NaN or infinity"):
        decode(body(header, bits.to_bytes(2, "little")), {"x": TensorSpec(dtype, (1,))})
