"""What each route does: read the body, check it, have the backend work on it, write the reply.

Reading and writing happen in a few threads of their own, beside the model and beside the event loop.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

from protocol.info import Info, combined_hash
from protocol.messages import HEAD, TAIL, Provenance, Readout, Usage
from protocol.problems import ProblemError
from services.scorer import wire
from services.scorer.backends import Backend, LlamaBackend, OpenAIBackend
from services.scorer.metrics import Metrics
from services.scorer.model.loading import LoadError
from services.scorer.ranks import rank
from services.scorer.requests import EncodeCall, ScoreCall, check_call
from services.scorer.results import Gradients, Scores, States
from services.scorer.settings import Settings
from services.scorer.templates import DEFAULTS, BadTemplate
from services.scorer.templates import load as load_templates
from services.web import JSON

T = TypeVar("T")

READERS = 4
"""Threads that read bodies and write replies."""


@dataclass(frozen=True)
class Job:
    """A call that was read and checked: what starts it, and what makes a body of its result."""

    start: Callable[[], Awaitable[Any]]
    write: Callable[[Any], bytes]


Route = Callable[[bytes, str], Job]


class Service:
    """A backend, warmed, behind functions from body to body.

    Attributes:
        info: What `GET /info` says.
        metrics: What `GET /metrics` says.
    """

    def __init__(self, settings: Settings, metrics: Metrics | None = None) -> None:
        """Load what the settings name.

        Raises:
            LoadError: It cannot be loaded or used.
        """
        self.metrics = metrics or Metrics()
        try:
            templates = load_templates(settings.templates)
        except BadTemplate as error:
            raise LoadError(f"SCORER_TEMPLATES: {error}") from error
        self._backend: Backend = (
            LlamaBackend(settings, templates, self.metrics)
            if settings.backend == "llama"
            else OpenAIBackend(settings, templates)
        )
        self.info: Info = self._backend.info
        self.metrics.watch(self._backend.waiting, self._backend.kept)
        self._pool = ThreadPoolExecutor(READERS, thread_name_prefix="scorer-reader")
        self._readers = asyncio.Semaphore(READERS)

    async def warm(self) -> None:
        """Run both kinds of call once: the first pays for allocations and kernels, and let it not be a client's.

        Raises:
            LoadError: The model fails on them, or the limits leave no room for any call.
        """
        if self._backend.hidden is None:
            return
        slots = {"entities": [{"name": "a"}], "relations": [{"name": "b"}]}
        query = slots | {"queries": [[0, 0]]}
        calls = [(self.encode, query), (self.encode_gradient, query | {"grad_states": [[0.0] * self._backend.hidden]})]
        template = self._backend.templates.get(DEFAULTS["verdict", TAIL])
        if template and "verdict" in template.readouts:
            calls.append((self.score, slots | {"triples": [[0, 0, 0]]}))
        try:
            for route, body in calls:
                await self.answer(route, json.dumps(body).encode(), JSON)
        except ProblemError as error:
            raise LoadError(f"cannot use {self.info.model!r}: {error.detail}") from error

    async def answer(self, route: Route, body: bytes, media: str) -> bytes:
        """The reply to a body. Raises the refusals of `protocol.problems`; cancelling it drops the work."""
        job = await self._beside(route, body, media)
        del body
        result = await job.start()
        return await self._beside(job.write, result)

    async def _beside(self, function: Callable[..., T], *given: Any) -> T:
        """Run it in a reader thread.

        Calls wait here for a thread, and not in the pool: whoever is cancelled before its turn leaves nothing there.
        """
        await self._readers.acquire()
        running = asyncio.get_running_loop().run_in_executor(self._pool, function, *given)
        running.add_done_callback(lambda _: self._readers.release())
        return await asyncio.shield(running)  # a thread that has begun goes on, and is busy until it ends

    def check(self) -> None:
        """Raise `NotReady` where calls cannot be answered."""
        self._backend.check()

    async def close(self) -> None:
        """Finish what waits, and end."""
        await self._backend.close()
        self._pool.shutdown()

    def score(self, body: bytes, media: str) -> Job:
        """`POST /score`."""
        call = wire.read_score(body, media, self._backend.hidden)
        check_call(call, self.info.limits, self._backend.hidden)
        made_by = self._scored_by(call, TAIL)

        def write(result: Scores) -> bytes:
            return wire.write_score(result, made_by(result.usage), media)

        return Job(self._backend.score(call, TAIL), write)

    def score_gradient(self, body: bytes, media: str) -> Job:
        """`POST /score/gradient`."""
        call, given = wire.read_score_gradient(body, media, self._backend.hidden)
        check_call(call, self.info.limits, self._backend.hidden)
        made_by = self._scored_by(call, TAIL)

        def write(result: Gradients) -> bytes:
            return wire.write_gradient(call, result, made_by(result.usage), media)

        return Job(self._backend.score_gradient(call, given), write)

    def rank(self, body: bytes, media: str) -> Job:
        """`POST /rank`."""
        call = wire.read_rank(body, media, self._backend.hidden)
        check_call(call.scored, self.info.limits, self._backend.hidden, "candidates", call.columns)
        made_by = self._scored_by(call.scored, call.side)

        def write(result: Scores) -> bytes:
            return wire.write_rank(rank(result, call.top_k), made_by(result.usage), media)

        return Job(self._backend.score(call.scored, call.side), write)

    def encode(self, body: bytes, media: str) -> Job:
        """`POST /encode`."""
        call = wire.read_encode(body, media, self._backend.hidden)
        check_call(call, self.info.limits, self._backend.hidden)
        start = self._backend.encode(call)
        made_by = self._encoded_by(call)

        def write(result: States) -> bytes:
            return wire.write_encode(result, made_by(result.usage), media)

        return Job(start, write)

    def encode_gradient(self, body: bytes, media: str) -> Job:
        """`POST /encode/gradient`."""
        call, grad_states = wire.read_encode_gradient(body, media, self._backend.hidden)
        check_call(call, self.info.limits, self._backend.hidden)
        start = self._backend.encode_gradient(call, grad_states)
        made_by = self._encoded_by(call)

        def write(result: Gradients) -> bytes:
            return wire.write_gradient(call, result, made_by(result.usage), media)

        return Job(start, write)

    def _scored_by(self, call: ScoreCall, side: int) -> Callable[[Usage], Provenance]:
        name = self._backend.chosen(call, side)
        return self._made_by(name, self._backend.templates[name].hash, call.readout)

    def _encoded_by(self, call: EncodeCall) -> Callable[[Usage], Provenance]:
        names = call.templates or (DEFAULTS["state", TAIL], DEFAULTS["state", HEAD])
        digest = combined_hash(self._backend.templates[name].hash for name in names)
        return self._made_by("+".join(names), digest, "state")

    def _made_by(self, template: str, digest: str, readout: Readout) -> Callable[[Usage], Provenance]:
        def of(usage: Usage) -> Provenance:
            return Provenance(
                model=self.info.model,
                revision=self.info.revision,
                template=template,
                template_hash=digest,
                readout=readout,
                usage=usage,
            )

        return of
