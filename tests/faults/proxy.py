"""A TCP proxy on loopback that tells the test when a request for some path goes by."""

import contextlib
import socket
import threading
from collections.abc import Callable


class Proxy:
    """Passes bytes on in both directions; `seen` is called, once a request, before its last part is passed on.

    Where nobody listens upstream, connections are closed at once, as a host would that has just started again.
    """

    def __init__(self, port: int, part: bytes, seen: Callable[[], None]) -> None:
        self._upstream, self._part, self._seen = port, part, seen
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        self._sockets: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        for each in [self._listening, *self._sockets]:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                downstream, _ = self._listening.accept()
                try:
                    upstream = socket.create_connection(("127.0.0.1", self._upstream), timeout=5)
                except OSError:
                    downstream.close()
                    continue
                upstream.settimeout(None)
                self._sockets += [downstream, upstream]
                for source, target, watched in ((downstream, upstream, True), (upstream, downstream, False)):
                    threading.Thread(target=self._pump, args=(source, target, watched), daemon=True).start()

    def _pump(self, source: socket.socket, target: socket.socket, watched: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                target.sendall(data)
                if watched and self._part in data:
                    self._seen()
        for each in (source, target):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
