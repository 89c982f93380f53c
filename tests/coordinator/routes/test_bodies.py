"""Bodies that are too long, lie about their length, come slowly or are something else; readers that do not read."""

import gzip
import io
import pickle
import socket
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest

from protocol.tensors import encode

from ..support import Member, Server, members

MIB = 1 << 20
SECONDS = 2.0


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("data")
    limits = {"COORDINATOR_MAX_BODY_BYTES": str(64 * MIB), "COORDINATOR_BODY_SECONDS": str(SECONDS)}
    running = Server(folder, **limits)
    yield running
    running.close()


@pytest.fixture(scope="module")
def member(server: Server) -> Member:
    """One of two clients of a training in which nobody answers; an update of it is 16 MB."""
    one, two = members(8_000, 3)
    server.join(one, two)
    server.begin(clients=2, dim=512, deadline_seconds=600)
    server.until(1, "training")
    return one


def opened(server: Server, member: Member, body: bytes, *, length: str | None, chunked: bool = False) -> socket.socket:
    """A connection that has sent the head of a signed update."""
    request = server.request(member, "PUT", "/round/1/update", body, "application/safetensors")
    headers = {name: value for name, value in request.headers.items() if name != "content-length"}
    if length is not None:
        headers["content-length"] = length
    if chunked:
        headers["transfer-encoding"] = "chunked"
    connection = socket.create_connection((server.http.base_url.host, server.http.base_url.port or 80), timeout=20)
    lines = ["PUT /round/1/update HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items()), "", ""]
    connection.sendall("\r\n".join(lines).encode("latin-1"))
    return connection


def status(connection: socket.socket) -> int:
    """The status that comes back; 0 where the connection is closed without one."""
    try:
        head = connection.recv(1 << 16)
    except OSError:
        head = b""
    connection.close()
    return int(head.split()[1]) if head else 0


def pour(connection: socket.socket, size: int, chunked: bool) -> None:
    """Send so many bytes, or as many as are taken."""
    block = b"\0" * MIB
    try:
        for _ in range(size // MIB):
            connection.sendall(b"%x\r\n%b\r\n" % (MIB, block) if chunked else block)
    except OSError:
        return


def resident(server: Server) -> int:
    size: int = psutil.Process(server.process.pid).memory_info().rss
    return size


def test_a_length_that_is_over_the_limit_is_refused_before_anything_is_sent(server: Server, member: Member) -> None:
    assert status(opened(server, member, b"", length=str(1 << 40))) == 413


def test_a_body_without_a_length_is_refused_while_it_streams_and_memory_stays(server: Server, member: Member) -> None:
    before = resident(server)
    connection = opened(server, member, b"", length=None, chunked=True)
    pour(connection, 256 * MIB, chunked=True)
    assert status(connection) in (413, 0)
    assert resident(server) - before < 16 * MIB
    assert list((server.data_dir / "incoming").glob("*.tmp")) == []


def test_a_body_that_ends_before_its_length_leaves_nothing(server: Server, member: Member) -> None:
    connection = opened(server, member, b"", length=str(8 * MIB))
    pour(connection, MIB, chunked=False)
    connection.shutdown(socket.SHUT_WR)
    assert status(connection) in (400, 401, 0)
    _no_temporary_file_is_left(server)
    assert server.view(member).answered is False


def _no_temporary_file_is_left(server: Server) -> None:
    until = 100
    while left := list((server.data_dir / "incoming").glob("*.tmp")):
        until -= 1
        assert until, left
        threading.Event().wait(0.05)


def test_an_update_s_own_size_bounds_it_also_below_the_limit(server: Server, member: Member) -> None:
    connection = opened(server, member, b"", length=str(40 * MIB))
    assert status(connection) == 413


class Canary:
    def __reduce__(self) -> tuple[object, ...]:
        return (exec, ("import pathlib; pathlib.Path('/tmp/tripleherd-canary').touch()",))


def zipped() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("entities.npy", b"\0" * (32 * MIB))
    return file.getvalue()


HUGE = encode({"entities": np.zeros((1, 512), np.float32)}).replace(b"[1,512]", b"[9,512]")
NESTED = (200_000).to_bytes(8, "little") + b"[" * 200_000
BODIES = {
    "pickle": pickle.dumps(Canary()),
    "zip": zipped(),
    "gzip": gzip.compress(b"\0" * (32 * MIB)),
    "a shape that lies": HUGE,
    "a header without end": (1 << 62).to_bytes(8, "little") + b"{}",
    "a header over its bound": (2 * MIB).to_bytes(8, "little") + b"{" + b" " * (2 * MIB) + b"}",
    "nested": NESTED,
}


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_what_is_no_safetensors_is_refused_and_neither_run_nor_expanded(
    server: Server, member: Member, body: bytes
) -> None:
    before = resident(server)
    assert server.put_update(member, 1, body).status_code == 422
    assert not Path("/tmp/tripleherd-canary").exists()
    assert resident(server) - before < 16 * MIB
    assert server.view(member).answered is False


def test_a_compressed_body_is_not_decompressed(server: Server, member: Member) -> None:
    body = gzip.compress(member.trained(server.share(member, 1)))
    request = server.request(member, "PUT", "/round/1/update", body, "application/safetensors")
    request.headers["content-encoding"] = "gzip"
    assert server.http.send(request).status_code == 415


def test_a_body_that_trickles_is_given_up_and_nobody_else_waits(server: Server, member: Member) -> None:
    body = member.trained(server.share(member, 1))
    slow = [opened(server, member, body, length=str(len(body))) for _ in range(5)]
    stop = threading.Event()

    def trickle(connection: socket.socket) -> None:
        try:
            for byte in body:
                connection.sendall(bytes([byte]))
                if stop.wait(0.1):
                    return
        except OSError:
            return

    threads = [threading.Thread(target=trickle, args=(connection,)) for connection in slow]
    for thread in threads:
        thread.start()
    assert server.view(member).phase == "training"
    assert server.http.get("/ready").status_code == 200
    assert [status(connection) for connection in slow] == [408] * 5
    stop.set()
    for thread in threads:
        thread.join()
    _no_temporary_file_is_left(server)


def test_who_does_not_read_its_share_is_left_and_memory_stays(server: Server, member: Member) -> None:
    before = resident(server)
    readers = []
    for _ in range(20):
        request = server.request(member, "GET", "/round/1/embeddings")
        connection = socket.socket()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.settimeout(20)
        connection.connect((server.http.base_url.host, server.http.base_url.port or 80))
        lines = ["GET /round/1/embeddings HTTP/1.1", *(f"{n}: {v}" for n, v in request.headers.items()), "", ""]
        connection.sendall("\r\n".join(lines).encode("latin-1"))
        readers.append(connection)
    assert server.share(member, 1)["entities"].shape == (8_000, 512)
    assert resident(server) - before < 20 * 4 * MIB + 32 * MIB
    threading.Event().wait(SECONDS + 1)
    sizes = []
    for connection in readers:
        size = 0
        try:
            while part := connection.recv(MIB):
                size += len(part)
        except OSError:
            pass
        sizes.append(size)
        connection.close()
    assert max(sizes) < 8_000 * 512 * 4
