import json
import os
import pty
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

ROOT = Path(__file__).parents[2]
SECRET = "swordfish"


class Server:
    """`tests.services.app` under uvicorn. Its log is complete once the block of `serving` has ended."""

    def __init__(self, port: int, log: Path) -> None:
        self.port, self._log = port, log
        self.http = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30)

    @property
    def text(self) -> str:
        return self._log.read_text()

    def lines(self, **wanted: object) -> list[dict[str, Any]]:
        parsed = [json.loads(line) for line in self.text.splitlines()]
        return [line for line in parsed if wanted.items() <= line.items()]


@contextmanager
def serving(folder: Path, *options: str) -> Iterator[Server]:
    log = folder / "log"
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "uvicorn", "tests.services.app:create_app", "--factory", "--port", str(port)]
    with log.open("wb") as output:
        process = subprocess.Popen([*command, *options], cwd=ROOT, stdout=output, stderr=subprocess.STDOUT)
    server = Server(port, log)
    try:
        wait_for(lambda: "running on" in server.text, process)
        with server.http:
            yield server
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(20)


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[bytes] | None = None) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        assert process is None or process.poll() is None
        time.sleep(0.05)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("served")) as running:
        yield running


def ended(server: Server, request_id: str) -> dict[str, Any]:
    """The line of a request, which may come a moment after its response."""
    wait_for(lambda: len(server.lines(event="request", request_id=request_id)) == 1)
    return server.lines(event="request", request_id=request_id)[0]


def test_every_line_of_every_logger_is_json(server: Server) -> None:
    server.http.get("/items/7", headers={"x-request-id": "of-item-7"})
    ended(server, "of-item-7")
    found = server.lines(request_id="of-item-7")
    assert [line["event"] for line in found if line["level"] == "info"] == [
        "item 7 of\ntwo lines",
        "structured",
        "request",
    ]
    assert [(line["logger"], line["event"]) for line in found if line["logger"] == "a_library"] == [
        ("a_library", "a library's words")
    ]
    assert "a warning's words" in server.lines(logger="py.warnings")[0]["event"]
    assert "chatter" not in server.text
    for line in server.lines():
        assert datetime.fromisoformat(line["timestamp"]).tzinfo == UTC
        assert {"level", "logger", "event"} <= line.keys()


def test_the_servers_own_lines_stay_and_its_access_log_goes(server: Server) -> None:
    server.http.get("/items/8", headers={"x-request-id": "of-item-8"})
    ended(server, "of-item-8")
    assert len(server.lines(logger="uvicorn.error", event="Application startup complete.")) == 1
    assert not server.lines(logger="uvicorn.access")
    assert "HTTP/1.1" not in server.text


def test_a_request_is_one_line_with_what_it_cost(server: Server) -> None:
    reply = server.http.post("/echo", params={"q": SECRET}, content=SECRET * 1000, headers={"authorization": SECRET})
    line = ended(server, reply.headers["x-request-id"])
    assert (line["method"], line["route"], line["status"], line["level"]) == ("POST", "/echo", 200, "info")
    assert (line["bytes_in"], line["bytes_out"]) == (len(SECRET) * 1000, len(reply.content))
    assert line["client_gone"] is False
    assert line["duration_ms"] >= 0
    assert SECRET not in server.text


@pytest.mark.parametrize("path", ["/items/1", "/items/one", "/busy", "/fault/x", "/nowhere"])
def test_every_response_names_its_request(server: Server, path: str) -> None:
    given = f"given{path.replace('/', '.')}"
    assert server.http.get(path, headers={"x-request-id": given}).headers["x-request-id"] == given
    made = [server.http.get(path).headers["x-request-id"] for _ in range(2)]
    assert all(re.fullmatch("[0-9a-f]{32}", one) for one in made)
    assert made[0] != made[1]


@pytest.mark.parametrize("malformed", ["", "a b", "x" * 65, "né".encode(), '{"a":1}'])
def test_a_malformed_id_is_replaced(server: Server, malformed: str | bytes) -> None:
    reply = server.http.get("/health", headers={"x-request-id": malformed})
    assert re.fullmatch("[0-9a-f]{32}", reply.headers["x-request-id"])


def test_routes_are_templates_and_unknown_paths_are_one(server: Server) -> None:
    expected = {"/items/12": "/items/{item}", f"/{SECRET}": "other"}
    for path, route in expected.items():
        assert ended(server, server.http.get(path).headers["x-request-id"])["route"] == route
    assert ended(server, server.http.delete("/busy").headers["x-request-id"])["route"] == "/busy"
    assert SECRET not in server.text


def test_a_fault_is_logged_once_with_the_id(server: Server) -> None:
    reply = server.http.get("/fault/its-words", headers={"x-request-id": "of-fault"})
    assert (reply.status_code, reply.headers["content-type"]) == (500, "application/problem+json")
    assert "of-fault" in reply.json()["detail"]
    assert ended(server, "of-fault")["status"] == 500
    (line,) = (line for line in server.lines() if "its-words" in str(line))
    assert (line["request_id"], line["level"], line["route"]) == ("of-fault", "error", "/fault/{words}")
    assert line["exception"].startswith("Traceback")


def test_a_fault_after_the_start_of_the_response_cuts_it(server: Server) -> None:
    with pytest.raises(httpx.RemoteProtocolError):
        server.http.get("/late-fault", headers={"x-request-id": "of-late-fault"})
    ended(server, "of-late-fault")
    (line,) = (line for line in server.lines() if "words of a late fault" in str(line))
    assert line["request_id"] == "of-late-fault"


def test_bodies_are_not_held_back(server: Server) -> None:
    with server.http.stream("GET", "/two-parts") as reply:
        parts = reply.iter_raw()
        assert next(parts) == b"first"
        server.http.post("/release")
        assert next(parts) == b"second"


def test_a_client_that_goes_is_no_fault(server: Server) -> None:
    with socket.create_connection(("127.0.0.1", server.port)) as raw:
        raw.sendall(b"POST /echo HTTP/1.1\r\nHost: x\r\nX-Request-ID: of-gone\r\nContent-Length: 99\r\n\r\nhalf")
    line = ended(server, "of-gone")
    assert (line["client_gone"], line["status"], line["bytes_in"], line["bytes_out"]) == (True, 499, 4, 0)
    assert server.lines(request_id="of-gone") == [line]


def test_probes_are_seen_by_who_looks_for_them(tmp_path: Path, server: Server) -> None:
    quiet = server.http.get("/health").headers["x-request-id"]
    ended(server, server.http.get("/items/3").headers["x-request-id"])
    assert not server.lines(request_id=quiet)
    with serving(tmp_path, "--log-level", "debug", "--no-access-log") as debugged:
        line = ended(debugged, debugged.http.get("/health").headers["x-request-id"])
    assert line["level"] == "debug"


def test_a_terminal_gets_text_without_local_variables() -> None:
    code = """
import logging
from services import logs

def fail(token):
    raise ValueError("why")

logs.configure()
try:
    fail("swordfish".upper())
except ValueError:
    logging.getLogger("services").exception("what")
"""
    terminal, end = pty.openpty()
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, stderr=end, check=True)
    os.close(end)
    text = os.read(terminal, 1 << 16).decode()
    os.close(terminal)
    assert "what" in text
    assert "ValueError: why" in text
    assert not text.startswith("{")
    assert SECRET.upper() not in text
