"""A scorer with one worker and one place to wait: who is refused, and who is dropped."""

import socket
import sys
import threading
import time
from collections.abc import Iterator

import httpx
import pytest
import uvicorn

from services.scorer.app import create_app
from services.scorer.settings import Settings

from .serving import free_port

SHORT = {"triples": [{"head": "a", "relation": "b", "tail": "c"}]}


class Running:
    """A server in a thread, whose worker the test can hold up."""

    def __init__(self) -> None:
        self.app = create_app(Settings(model="embedded", queue=1))
        self.port = free_port()
        self.server = uvicorn.Server(uvicorn.Config(self.app, port=self.port, log_level="error"))
        self.thread = threading.Thread(target=self.server.run)
        self.thread.start()
        while not self.server.started:
            time.sleep(0.02)
        self.url = f"http://127.0.0.1:{self.port}"
        self.gate = threading.Event()

    def close(self) -> None:
        self.gate.set()
        self.server.should_exit = True
        self.thread.join()

    def hold(self) -> None:
        """Have the worker wait at the gate."""
        started = threading.Event()
        self.app.state.worker.submit(lambda: (started.set(), self.gate.wait()))
        assert started.wait(5)


@pytest.fixture
def running() -> Iterator[Running]:
    server = Running()
    yield server
    server.close()


def post_and_leave(port: int) -> None:
    body = b'{"triples": [{"head": "a", "relation": "b", "tail": "c"}]}'
    head = f"POST /score HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(head.encode() + body)
        time.sleep(0.3)


def test_a_full_queue_is_429_and_a_client_that_leaves_frees_its_place(running: Running) -> None:
    running.hold()
    leaving = threading.Thread(target=post_and_leave, args=(running.port,))
    leaving.start()
    time.sleep(0.15)
    refused = httpx.post(f"{running.url}/score", json=SHORT)
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
    assert httpx.get(f"{running.url}/health").status_code == 200  # the event loop is free all the while
    leaving.join()
    time.sleep(0.1)
    threading.Timer(0.2, running.gate.set).start()
    assert httpx.post(f"{running.url}/score", json=SHORT).status_code == 200


def test_a_model_that_fails_is_424(running: Running, caplog: pytest.LogCaptureFixture) -> None:
    running.app.state.service._engine._forward._decoder.norm.weight.fill_(float("nan"))
    reply = httpx.post(f"{running.url}/score", json=SHORT)
    assert reply.status_code == 424
    assert "NaN" in reply.json()["detail"]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_ready_tells_of_a_dead_worker(running: Running) -> None:
    running.app.state.worker.submit(lambda: sys.exit())
    time.sleep(0.2)
    assert httpx.get(f"{running.url}/ready").status_code == 503
    assert httpx.post(f"{running.url}/score", json=SHORT).status_code == 503
    assert httpx.get(f"{running.url}/health").status_code == 200
