"""A server on the loopback that answers chat completions as OpenAI's API does, and whose faults a test can script."""

import json
import math
import select
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

HURRY = {"Retry-After-Ms": "1"}
"""What the client waits in place of its own half a second."""


@dataclass(frozen=True)
class Sent:
    """What goes back to the client; `body` as JSON, or as it is where it is bytes."""

    body: Any = None
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    closes: bool = False
    waits: bool = False


CLOSED = Sent(closes=True)
"""The connection ends before an answer."""


def said(
    text: str | None,
    likely: dict[str, float] | None = None,
    *,
    finish: str = "stop",
    refusal: str | None = None,
    usage: dict[str, Any] | None = None,
    waits: bool = False,
) -> Sent:
    """An answer; `likely` are the probabilities that are listed for its first token."""
    tops = [{"token": token, "logprob": math.log(p), "bytes": None} for token, p in (likely or {}).items()]
    logprobs = {"content": [tops[0] | {"top_logprobs": tops}]} if tops else None
    message = {"role": "assistant", "content": text, "refusal": refusal}
    choice = {"index": 0, "message": message, "logprobs": logprobs, "finish_reason": finish}
    return Sent(completion([choice], usage), waits=waits)


def completion(choices: list[dict[str, Any]], usage: dict[str, Any] | None = None) -> dict[str, Any]:
    return {"id": "1", "object": "chat.completion", "created": 1, "model": "m", "choices": choices, "usage": usage}


def fault(status: int, message: str = "no", code: str | None = None, **headers: str) -> Sent:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Sent({"error": {"message": message, "type": "t", "param": None, "code": code}}, status, named or HURRY)


class OpenAI(ThreadingHTTPServer):
    """Attributes:
    answer: What is sent for a prompt, once no fault is left.
    faults: What is sent first, one a request.
    asked: Bodies of all requests.
    headers: Headers of all requests, by their names in lower case.
    opened: Set it to let the answers go that wait.
    arrived: Counts the requests, to wait for one.
    hung_up: Counts the clients that went while their answer waited.
    most: The most answers that waited at a time.
    """

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answer: Callable[[str], Sent] = lambda prompt: said("yes", {"yes": 0.75, "no": 0.25})
        self.faults: list[Sent] = []
        self.asked: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.opened = threading.Event()
        self.arrived, self.hung_up = threading.Semaphore(0), threading.Semaphore(0)
        self.running = self.most = 0
        self.lock = threading.Lock()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is what some tests are about."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"

    @property
    def prompts(self) -> list[str]:
        return [body["messages"][0]["content"] for body in self.asked]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: OpenAI

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.lock:
            self.server.asked.append(body)
            self.server.headers.append({name.lower(): value for name, value in self.headers.items()})
            fault = self.server.faults.pop(0) if self.server.faults else None
        sent = fault or self.server.answer(body["messages"][0]["content"])
        if self.path != "/v1/chat/completions":
            sent = Sent({"detail": "Not Found"}, 404)
        self.server.arrived.release()
        if sent.closes or (sent.waits and not self._client_waits()):
            self.close_connection = True
            return
        self._send(sent)

    def _send(self, sent: Sent) -> None:
        content = sent.body if isinstance(sent.body, bytes) else json.dumps(sent.body).encode()
        self.send_response(sent.status)
        for name, value in ({"Content-Type": "application/json"} | sent.headers).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _client_waits(self) -> bool:
        """Hold the answer back until the test lets it go; whether the client is still there then."""
        with self.server.lock:
            self.server.running += 1
            self.server.most = max(self.server.most, self.server.running)
        try:
            while not self.server.opened.wait(0.02):
                readable, _, _ = select.select([self.connection], [], [], 0)
                if readable and not self.connection.recv(1, socket.MSG_PEEK):
                    self.server.hung_up.release()
                    return False
            return True
        finally:
            with self.server.lock:
                self.server.running -= 1

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def serve() -> Iterator[OpenAI]:
    server = OpenAI()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.opened.set()
        server.shutdown()
        thread.join()
        server.server_close()
