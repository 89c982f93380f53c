"""Small graphs, models in float64, and a real HTTP server on a loopback port."""

import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import numpy as np
import torch

from protocol.trainings import Dense, InteractionName, LocalSettings, TrainingSettings
from trainer.answers import Queries
from trainer.graph import Graph
from trainer.interactions import Batch, Dropout, Tables
from trainer.interactions.base import NO_DROPOUT
from trainer.presets import training_settings


def random_graph(seed: int, entities: int = 12, relations: int = 3, triples: int = 80) -> Graph:
    """Random named triples, half of them for training; names sort in the order of their numbers."""
    generator = np.random.default_rng(seed)
    sizes = (entities, relations, entities)
    rows = np.unique(np.stack([generator.integers(s, size=triples) for s in sizes], axis=1), axis=0)
    named = [(f"e{h:03d}", f"r{r}", f"e{t:03d}") for h, r, t in generator.permutation(rows).tolist()]
    half, quarter = len(named) // 2, len(named) // 4
    return Graph.from_names({"train": named[:half], "valid": named[half:-quarter], "test": named[-quarter:]})


def queries(*rows: tuple[int, int, int]) -> Queries:
    """Queries of (given, relation, side) rows."""
    return Queries(*np.array(rows, dtype=np.int64).reshape(-1, 3).T)


def small_settings(interaction: InteractionName, dim: int = 16, **changes: object) -> TrainingSettings:
    """A preset that trains in no time."""
    local = LocalSettings.model_validate({"batch_size": 64, "local_epochs": 1} | dict(changes.pop("local", {})))  # type: ignore[call-overload]
    return training_settings(interaction, None, None, dim=dim, local=local, **changes)


def float64_tables(entities: int, relations: int, dim: int, width: int, dense: Mapping[str, Dense]) -> Tables:
    """Random trainable tables in float64."""
    generator = torch.Generator().manual_seed(1)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64).requires_grad_()

    return Tables(normal(entities, dim), normal(relations, width), {n: normal(*d.shape) for n, d in dense.items()})


def batch(asked: Queries, dropout: Dropout = NO_DROPOUT) -> Batch:
    """Queries as tensors."""
    return Batch(*(torch.from_numpy(c) for c in (asked.given, asked.relation, asked.side)), dropout)


Run = subprocess.CompletedProcess[str]
"""How a command ended, and what it printed."""

Reply = tuple[int, bytes]
DROP = (0, b"")
"""Close the connection without an answer."""


@dataclass
class Loopback:
    """A server that answers what `respond` returns, and remembers every request."""

    respond: Callable[[str, bytes], Reply]
    seen: list[tuple[str, str, Mapping[str, str], bytes]] = field(default_factory=list)
    url: str = ""


@contextmanager
def loopback(respond: Callable[[str, bytes], Reply]) -> Iterator[Loopback]:
    """`respond` gets the path and the body."""
    running = Loopback(respond)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1  # head and body leave together; apart, the second would wait for an acknowledgement of the first

        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            running.seen.append((self.command, self.path, dict(self.headers), body))
            status, reply = running.respond(self.path, body)
            if (status, reply) == DROP:
                self.close_connection = True
                return
            self.send_response(status)
            self.send_header("Content-Length", str(len(reply)))
            self.end_headers()
            self.wfile.write(reply)

        do_GET = do_PUT = do_POST = do_DELETE = answer

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    running.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield running
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def threads(count: int) -> Iterator[None]:
    """So many threads for torch and the compiled loops."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
