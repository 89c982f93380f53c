from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol import tensors
from protocol.problems import InvalidRequest, ProblemError
from services.scorer import wire
from services.scorer.requests import SlotText

from .requests import HIDDEN, Call, encode_call, rank_call, score_call

VALID = tensors.encode(
    {"entities": np.ones((2, 1, 4), dtype="f4"), "queries": np.zeros((1, 2), dtype="i4")},
    {"relation_texts": {"0": {"name": "r"}}},
)


def test_name_and_description_are_kept_apart_as_one_is_cut() -> None:
    body = b'{"entities": [{"name": "a", "description": "b c"}], "relations": [{"name": "r"}], "queries": [[0, 0]]}'
    call = wire.read_encode(body, "application/json", 4)
    assert call.entities.texts == {0: SlotText("a", "b c")}
    assert call.sides.tolist() == [0]


def test_slots_may_hold_different_numbers_of_vectors() -> None:
    body = b'{"entities": [{"vectors": [[1, 2]]}, {"name": "a"}, {"vectors": [[3, 4], [5, 6]]}],'
    call = wire.read_encode(body + b'"relations": [{"name": "r"}], "queries": [[0, 0]]}', "application/json", 2)
    assert call.entities.counts.tolist() == [1, 0, 2]
    assert call.entities.starts.tolist() == [0, 1, 1]
    assert call.entities.vectors.tolist() == [[1, 2], [3, 4], [5, 6]]


def test_equal_names_are_one_row() -> None:
    body = b'{"triples": [{"head": "a", "relation": "r", "tail": "b"}, {"head": "b", "relation": "r", "tail": "a"}]}'
    call = wire.read_score(body, "application/json", 4)
    assert call.triples.tolist() == [[0, 0, 1], [1, 0, 0]]


def test_the_valid_body_is_valid() -> None:
    assert len(wire.read_encode(VALID, tensors.MEDIA_TYPE, 4).entities) == 2


CALLS = [
    (score_call(), wire.read_score),
    (score_call(path="/score/gradient", grad_scores=np.ones(5, dtype="f4")), wire.read_score_gradient),
    (rank_call(), wire.read_rank),
    (encode_call(), wire.read_encode),
    (encode_call(path="/encode/gradient", grad_states=np.ones((4, HIDDEN), dtype="f4")), wire.read_encode_gradient),
]


@pytest.mark.parametrize(("call", "read"), CALLS, ids=lambda part: getattr(part, "path", ""))
def test_a_damaged_body_is_read_or_refused(call: Call, read: Any) -> None:
    whole = call.tensors
    header = 8 + int.from_bytes(whole[:8], "little")
    assert read(whole, tensors.MEDIA_TYPE, HIDDEN)

    @settings(max_examples=150, deadline=None)
    @given(place=st.integers(0, header - 1), byte=st.integers(0, 255), cut=st.integers(0, len(whole)))
    def damage(place: int, byte: int, cut: int) -> None:
        for body in (whole[:place] + bytes([byte]) + whole[place + 1 :], whole[:cut]):
            with suppress(InvalidRequest):  # anything else that is raised fails the test
                read(body, tensors.MEDIA_TYPE, HIDDEN)

    damage()


@pytest.mark.parametrize("media", ["application/json", tensors.MEDIA_TYPE])
@pytest.mark.parametrize("read", [read for _, read in CALLS], ids=lambda read: read.__name__)
@given(body=st.binary(max_size=200))
def test_noise_is_refused(read: Any, media: str, body: bytes) -> None:
    with pytest.raises(ProblemError):
        read(body, media, HIDDEN)
