"""Bodies that are too large, too slow, damaged or made to do harm, and replies that nobody takes."""

import gzip
import http.client
import io
import json
import os
import pickle
import socket
import struct
import threading
import time
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from protocol import problems, tensors
from protocol.encoding import ENCODE_REPLY_TENSORS

from .requests import HIDDEN, JSON, SHORT, ST, Call, encode_call, rank_call, score_call, vectors
from .serving import PATIENCE, Process, Served, crowd, eventually, opened, problem, response, served
from .test_refusals import refused

ROUTES = ["/score", "/score/gradient", "/rank", "/encode", "/encode/gradient"]
MEGABYTES = 1 << 20


@pytest.mark.parametrize("path", ROUTES)
def test_a_body_that_says_it_is_too_large_is_refused_before_it_comes(client: Process, path: str) -> None:
    for size in (400_001, 10**18):
        with opened(client.port, path, "Content-Type: application/json", f"Content-Length: {size}") as connection:
            told = problem(connection)  # nothing of the body was sent
            assert told.status == 413
            assert "400000 bytes" in told.detail
    reply = client.post(path, content=b" " * 400_000, headers=JSON)
    assert reply.status_code == 422  # so much is read


@pytest.mark.parametrize("path", ROUTES)
def test_a_body_of_unknown_size_is_refused_once_it_is_too_large(client: Process, path: str) -> None:
    with opened(client.port, path, "Content-Type: application/json", "Transfer-Encoding: chunked") as connection:
        for _ in range(7):
            connection.sendall(b"10000\r\n" + b" " * 0x10000 + b"\r\n")
        assert problem(connection).status == 413  # its end was not sent


def test_a_body_without_end_takes_no_memory(client: Process) -> None:
    before = client.resident
    with opened(client.port, "/score", "Content-Type: application/json", "Transfer-Encoding: chunked") as connection:
        chunk = b"100000\r\n" + b" " * MEGABYTES + b"\r\n"
        for _ in range(100):
            try:
                connection.sendall(chunk)
            except OSError:  # the scorer may hang up, too
                break
        assert client.resident - before < 20 * MEGABYTES
    assert client.post("/score", json=SHORT).status_code == 200


def test_a_body_that_is_longer_than_it_says_is_read_as_far_as_it_says(client: Process) -> None:
    body = json.dumps(SHORT).encode()
    head = ("Content-Type: application/json", f"Content-Length: {len(body) - 1}")
    with opened(client.port, "/score", *head) as connection:
        connection.sendall(body)
        # The last byte is no part of it, and no request either.
        assert response(connection).status in (400, 422)


@pytest.mark.parametrize("length", ["nonsense", "-5", "1e9", "9" * 5000, "0x10", "5, 6", "\xb2"])
def test_a_length_that_is_no_number_is_refused(client: Process, length: str) -> None:
    with opened(client.port, "/score", "Content-Type: application/json", f"Content-Length: {length}") as connection:
        assert response(connection).status == 400


def test_a_body_without_any_length_is_empty(client: Process) -> None:
    with opened(client.port, "/score", "Content-Type: application/json") as connection:
        assert problem(connection).status == 422


class Canary:
    """Makes a folder where it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("path", ROUTES)
def test_a_pickle_is_refused_and_not_run(client: Process, path: str, tmp_path: Path) -> None:
    canary = tmp_path / "sings"
    for protocol in (0, pickle.HIGHEST_PROTOCOL):
        body = pickle.dumps(Canary(canary), protocol)
        for media in ("application/x-pickle", "application/octet-stream"):
            reply = client.post(path, content=body, headers={"content-type": media})
            refused(reply, problems.WrongMediaType)
        for headers in (ST, JSON):
            refused(client.post(path, content=body, headers=headers), problems.InvalidRequest)
    assert not canary.exists()
    pickle.loads(body)
    assert canary.exists()  # the canary can sing


def zipped(content: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as made:
        made.writestr("entities.npy", content)
    return file.getvalue()


def test_compressed_bodies_are_refused_and_not_expanded(client: Process) -> None:
    before = client.resident
    zeros = b" " * (200 * MEGABYTES)
    for body in (gzip.compress(zeros), zipped(zeros)):
        assert len(body) < 400_000
        for headers in (JSON, ST):
            refused(client.post("/score", content=body, headers=headers), problems.InvalidRequest)
            for coding in ("gzip", "deflate", "br"):
                reply = client.post("/score", content=body, headers=headers | {"content-encoding": coding})
                refused(reply, problems.WrongMediaType, coding)
    assert client.resident - before < 50 * MEGABYTES
    plain = client.post("/score", content=json.dumps(SHORT), headers=JSON | {"content-encoding": "identity"})
    assert plain.status_code == 200


def lying(header: Any, numbers: bytes = b"\0" * 8, size: int | None = None) -> bytes:
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text) if size is None else size) + text + numbers


def entry(shape: Any, *offsets: int, dtype: str = "I32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": list(offsets)}


@pytest.mark.parametrize("path", ROUTES)
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff" * 8,
        struct.pack("<Q", 1 << 60) + b"{}",
        lying({}, size=1),
        lying([]),
        lying({"triples": entry([1, 3], 0, 1 << 40)}),
        lying({"triples": entry([1 << 40, 3], 0, 8)}),
        lying({"triples": entry([-1, 3], 0, 8)}),
        lying({"triples": entry([0, 3], 8, 0)}),
        lying({"triples": entry([0, 3], 0, 0), "entities": entry([0, 1 << 62, HIDDEN], 0, 0, dtype="F32")}, b""),
        lying({"queries": entry([1, 2], 0, 8), "entities": entry([0, 1 << 63, 1], 8, 8, dtype="F32")}),
        lying({"triples": None}),
        lying({"__metadata__": {"message": "["}, "triples": entry([0, 3], 0, 0)}, b""),
        lying({"__metadata__": {"message": '{"entity_texts": {"1e9": {}}}'}, "triples": entry([0, 3], 0, 0)}, b""),
    ],
    ids=lambda body: repr(body)[:60],
)
def test_safetensors_that_lie_are_refused(client: Process, path: str, body: bytes) -> None:
    refused(client.post(path, content=body, headers=ST), problems.InvalidRequest)


WHOLE = [
    score_call(keep=True),
    score_call(path="/score/gradient", loss={"name": "cross_entropy"}, groups=np.array([0, 0, 1, 1, 0], "i4")),
    rank_call(top_k=2),
    encode_call(layer="middle"),
    encode_call(path="/encode/gradient", grad_states=vectors(4, HIDDEN)),
]


@pytest.mark.parametrize("call", WHOLE, ids=lambda call: call.path)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_damaged_body_is_read_or_refused(client: Process, call: Call, data: st.DataObject) -> None:
    whole = call.tensors
    body = bytearray(whole)
    header = 8 + int.from_bytes(whole[:8], "little")
    for _ in range(data.draw(st.integers(1, 3))):
        # Mostly in the header, where the most can go wrong.
        end = data.draw(st.sampled_from([8, header, header, header, len(whole)]))
        body[data.draw(st.integers(0, end - 1))] = data.draw(st.integers(0, 255))
    if data.draw(st.booleans()):
        del body[data.draw(st.integers(0, len(body))) :]
    reply = client.post(call.path, content=bytes(body), headers=ST)
    # 424: numbers may have become so large that the model makes infinity of them.
    assert reply.status_code in (200, 413, 422, 424), reply.text


@pytest.mark.parametrize("media", ["application/json", tensors.MEDIA_TYPE])
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=st.binary(max_size=200))
def test_noise_is_refused(client: Process, media: str, body: bytes) -> None:
    refused(client.post("/score", content=body, headers={"content-type": media}), problems.InvalidRequest)


@pytest.fixture(scope="module")
def hasty() -> Iterator[Served]:
    """A scorer with two places that waits for a second at most."""
    with served(model="random", queue=1, workers=1, body_seconds=1) as running:
        yield running


def trickle(connection: socket.socket, ended: threading.Event) -> None:
    """Send a byte now and then."""
    while not ended.wait(0.05):
        try:
            connection.sendall(b" ")
        except OSError:
            return


def test_a_slow_client_is_refused_in_time_and_holds_up_nobody(hasty: Served) -> None:
    ended = threading.Event()
    connection = opened(hasty.port, "/score", "Content-Type: application/json", "Content-Length: 100000")
    sender = threading.Thread(target=trickle, args=(connection, ended))
    sender.start()
    try:
        for _ in range(5):
            assert hasty.post("/score", json=SHORT).status_code == 200
        told = problem(connection)
        assert told.status == 408
        assert "within 1 s" in told.detail
    finally:
        ended.set()
        sender.join()
        connection.close()


def test_slow_clients_hold_places_until_they_are_refused_and_no_longer(hasty: Served) -> None:
    slow: list[socket.socket] = []
    with ExitStack() as stack:
        crowd(hasty, slow, stack)
        assert hasty.get("/health").status_code == 200
        told = [problem(connection).status for connection in slow]
        assert told.count(408) >= 2
        assert set(told) <= {408, 429}
    for _ in range(3):
        assert hasty.post("/score", json=SHORT).status_code == 200


def test_a_client_that_ends_in_the_middle_of_its_body_gives_its_place_back(hasty: Served) -> None:
    for _ in range(4):
        with opened(hasty.port, "/score", "Content-Type: application/json", "Content-Length: 100000") as connection:
            connection.sendall(b"{")
    eventually(lambda: hasty.post("/score", json=SHORT).status_code == 200)


LARGE = tensors.encode(
    {"entities": vectors(1, 1, HIDDEN), "relations": vectors(1, 1, HIDDEN), "queries": np.zeros((16_384, 2), "i4")}
)
"""A call whose reply takes 8 MiB."""


def test_a_large_reply_arrives_whole(hasty: Served) -> None:
    reply = hasty.post("/encode", content=LARGE, headers=ST)
    states = tensors.decode(reply.content, ENCODE_REPLY_TENSORS)[0]["states"]
    assert states.shape == (16_384, HIDDEN)
    assert (states == states[0]).all()


def test_a_slow_reader_holds_up_nobody_and_is_left_in_time(hasty: Served) -> None:
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.settimeout(PATIENCE)
        connection.connect(("127.0.0.1", hasty.port))
        head = f"POST /encode HTTP/1.1\r\nHost: x\r\nContent-Type: {tensors.MEDIA_TYPE}\r\n"
        connection.sendall(f"{head}Content-Length: {len(LARGE)}\r\n\r\n".encode() + LARGE)
        reply = response(connection)
        assert int(reply.headers["content-length"]) > 8 * MEGABYTES
        for _ in range(5):
            assert hasty.post("/score", json=SHORT).status_code == 200
        time.sleep(3)  # nothing is read for longer than the scorer waits
        with pytest.raises(http.client.IncompleteRead):
            reply.read()
    assert hasty.get("/ready").status_code == 200
