"""A hub on the loopback that serves one folder as one repository, by the routes that huggingface_hub calls."""

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

REPOSITORY = "herd/tiny-llama"
COMMIT = hashlib.sha1(b"tiny").hexdigest()


class Hub(ThreadingHTTPServer):
    """Attributes: `asked` lists the paths of all requests."""

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.folder = folder
        self.asked: list[str] = []

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Hub

    def do_HEAD(self) -> None:
        self._answer(head=True)

    def do_GET(self) -> None:
        self._answer(head=False)

    def _answer(self, head: bool) -> None:
        path = urlsplit(self.path).path
        self.server.asked.append(path)
        names = [file.name for file in self.server.folder.iterdir()]
        api, prefix = f"/api/models/{REPOSITORY}", f"/{REPOSITORY}/resolve/"
        if path in (api, f"{api}/revision/main", f"{api}/revision/{COMMIT}"):
            siblings = [{"rfilename": name} for name in names]
            return self._json({"_id": "1", "id": REPOSITORY, "sha": COMMIT, "siblings": siblings}, head)
        if path in (f"{api}/tree/main", f"{api}/tree/{COMMIT}"):
            return self._json([self._entry(name) for name in names], head)
        if path.startswith(prefix):
            revision, _, name = path.removeprefix(prefix).partition("/")
            if revision in ("main", COMMIT) and name in names:
                return self._send(200, (self.server.folder / name).read_bytes(), head, name)
            return self._send(404, b"", head, None, ("X-Error-Code", "EntryNotFound"))
        return self._send(404, b"", head, None, ("X-Error-Code", "RepoNotFound"))

    def _entry(self, name: str) -> dict[str, object]:
        return {
            "type": "file",
            "path": name,
            "size": (self.server.folder / name).stat().st_size,
            "oid": self._tag(name),
        }

    def _tag(self, name: str) -> str:
        return hashlib.sha1((self.server.folder / name).read_bytes()).hexdigest()

    def _json(self, document: object, head: bool) -> None:
        self._send(200, json.dumps(document).encode(), head, None, ("Content-Type", "application/json"))

    def _send(self, status: int, body: bytes, head: bool, name: str | None, *headers: tuple[str, str]) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-Repo-Commit", COMMIT)
        if name is not None:
            self.send_header("ETag", f'"{self._tag(name)}"')
        for key, value in headers:
            self.send_header(key, value)
        self.end_headers()
        if not head:
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def serve(folder: Path) -> Iterator[Hub]:
    hub = Hub(folder)
    thread = threading.Thread(target=hub.serve_forever)
    thread.start()
    try:
        yield hub
    finally:
        hub.shutdown()
        thread.join()
        hub.server_close()
