"""Bodies that lie, callers that are slow, and more calls than there is room for."""

import gzip
import io
import json
import pickle
import socket
import struct
import threading
import time
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
import pytest

from protocol import problems, tensors

from .requests import HIDDEN, JSON, SHORT, ST, vectors
from .serving import PATIENCE, Process, metric, scorer

LIMIT = 2_000_000
ROOM = 64 << 20
"""Bytes that a process may grow by without being said to hold what it was sent."""


@pytest.fixture(scope="module")
def bounded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    settings = {"SCORER_MAX_BODY_BYTES": str(LIMIT), "SCORER_BODY_SECONDS": "1", "SCORER_QUEUE": "4"}
    with scorer(tmp_path_factory.mktemp("bounded"), **settings) as running:
        yield running


def resident(client: Process) -> int:
    return int(psutil.Process(client.process.pid).memory_info().rss)


def raw(client: Process, head: str, parts: Any) -> bytes:
    """The answer to a request that is written by hand; sending stops where the server closes."""
    with socket.create_connection(("127.0.0.1", client.port), timeout=PATIENCE) as connection:
        connection.sendall(
            f"POST /score HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n{head}\r\n\r\n".encode()
        )
        try:
            for part in parts:
                connection.sendall(part)
        except OSError:
            pass
        received = b""
        try:
            while b"\r\n\r\n" not in received and (some := connection.recv(65536)):
                received += some
        except OSError:
            pass
        return received


CHUNK = b"10000\r\n" + b"x" * 65536 + b"\r\n"


@pytest.mark.parametrize(
    ("head", "parts"),
    [
        (f"Content-Length: {LIMIT + 1}", []),
        ("Content-Length: 99999999999999999999", []),
        ("Transfer-Encoding: chunked", [CHUNK] * 2000),
    ],
    ids=["stated", "stated beyond reason", "chunked"],
)
def test_a_body_over_the_limit_is_413_while_it_arrives(bounded: Process, head: str, parts: list[bytes]) -> None:
    before = resident(bounded)
    assert b" 413 " in raw(bounded, head, parts).split(b"\r\n")[0]
    assert resident(bounded) - before < ROOM
    assert bounded.post("/score", json=SHORT).status_code == 200


def test_a_body_longer_than_it_says_is_read_no_further(bounded: Process) -> None:
    content = json.dumps(SHORT).encode()
    assert b" 200 " in raw(bounded, f"Content-Length: {len(content)}", [content + b"x" * 100]).split(b"\r\n")[0]


def canary(path: Path) -> bytes:
    class Canary:
        def __reduce__(self) -> Any:
            return (open, (str(path), "w"))

    return pickle.dumps(Canary())


def bomb() -> bytes:
    """A zip of 64 MiB of zeros."""
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("zeros", b"\0" * ROOM)
    return held.getvalue()


@pytest.mark.parametrize("media", ["application/json", tensors.MEDIA_TYPE, "application/octet-stream"])
def test_nothing_in_a_body_is_run_or_expanded(bounded: Process, tmp_path: Path, media: str) -> None:
    sung = tmp_path / "sung"
    before = resident(bounded)
    zipped = gzip.compress(b'{"triples": []}' + b" " * ROOM)
    for body in (canary(sung), bomb(), zipped):
        for encoding in ({}, {"content-encoding": "gzip"}):
            reply = bounded.post("/score", content=body, headers={"content-type": media, **encoding})
            assert reply.status_code in (415, 422), reply.text
            assert reply.headers["content-type"] == problems.MEDIA_TYPE
    assert not sung.exists()
    assert resident(bounded) - before < ROOM


def lying(header: Any, numbers: bytes = b"\0" * 8) -> bytes:
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + numbers


@pytest.mark.parametrize(
    "body",
    [
        b"",
        struct.pack("<Q", 1 << 60) + b"{}",
        lying([]),
        lying({"triples": {"dtype": "I32", "shape": [1, 3], "data_offsets": [0, 1 << 40]}}),
        lying({"triples": {"dtype": "I32", "shape": [1 << 40, 3], "data_offsets": [0, 8]}}),
        lying({"triples": {"dtype": "I32", "shape": [-1, 3], "data_offsets": [0, 8]}}),
        lying({"triples": {"dtype": "I32", "shape": [0, 3], "data_offsets": [8, 0]}}),
        lying({"triples": None}),
    ],
)
def test_safetensors_that_lie_are_refused(bounded: Process, body: bytes) -> None:
    for path in ("/score", "/score/gradient", "/rank", "/encode", "/encode/gradient"):
        assert bounded.post(path, content=body, headers=ST).status_code == 422
    assert bounded.get("/ready").status_code == 200


def test_a_caller_that_sends_a_byte_now_and_then_is_left_and_holds_nobody_up(bounded: Process) -> None:
    def drip() -> Iterator[bytes]:
        for _ in range(40):
            yield b" "
            time.sleep(0.1)

    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(raw, bounded, "Content-Length: 1000", drip())
        while not slow.done():
            assert bounded.post("/score", json=SHORT).status_code == 200
    assert b" 408 " in slow.result().split(b"\r\n")[0]


def test_a_caller_that_does_not_read_its_reply_holds_nobody_up(bounded: Process) -> None:
    states = {"entities": vectors(1, 1, HIDDEN), "relations": vectors(1, 1, HIDDEN)}
    body = tensors.encode(states | {"queries": np.zeros((16_000, 2), dtype="i4")})
    head = (
        f"POST /encode HTTP/1.1\r\nHost: x\r\nContent-Type: {tensors.MEDIA_TYPE}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", bounded.port)) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.sendall(head.encode() + body)  # 8 MB will come back, and nobody takes them
        for _ in range(20):
            assert bounded.post("/score", json=SHORT).status_code == 200


def test_ten_times_the_queue_gives_429_and_no_growth_and_full_service_after(bounded: Process) -> None:
    """Each caller comes again when it is told to; with 50 at once there is room for 5 and the rest is refused."""
    names = [{"head": f"h{n}", "relation": "r", "tail": f"t{n}"} for n in range(300)]
    body = json.dumps({"triples": names}).encode()
    bounded.post("/score", content=body, headers=JSON).raise_for_status()
    before, started = resident(bounded), threading.Barrier(50)

    def caller(_: int) -> list[int]:
        with httpx.Client(base_url=bounded.base_url, timeout=PATIENCE) as own:
            started.wait()
            found = []
            for _ in range(6):
                reply = own.post("/score", content=body, headers=JSON)
                assert reply.status_code == 200 or reply.headers["retry-after"] == "1"
                found.append(reply.status_code)
            return found

    with ThreadPoolExecutor(50) as pool:
        statuses = [status for found in pool.map(caller, range(50)) for status in found]
    assert set(statuses) == {200, 429}
    assert statuses.count(429) > 100
    assert resident(bounded) - before < ROOM
    assert metric(bounded, "queue_length") == 0
    for _ in range(10):
        assert bounded.post("/score", content=body, headers=JSON).status_code == 200
