"""What answers calls: a model in this process, or another server. Both end in the same results.

A backend's methods check and prepare a call, which may take a moment and happens in a thread; what they return starts
the work and is awaited. Whoever stops awaiting it drops the work.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol, TypeVar

import torch

from protocol.info import Info, Limits, combined_hash
from protocol.messages import HEAD, TAIL
from protocol.problems import InvalidRequest, NotReady
from services.scorer.engine.engine import Engine
from services.scorer.engine.kept import Kept
from services.scorer.engine.tasks import Task
from services.scorer.engine.words import NoSingleTokens
from services.scorer.metrics import Kind, Metrics
from services.scorer.model.loading import Loaded, LoadError, load
from services.scorer.model.memory import available
from services.scorer.remote.client import Remote
from services.scorer.requests import EncodeCall, Floats, ScoreCall, ScoreGradient
from services.scorer.results import Gradients, Scores, States
from services.scorer.settings import Settings
from services.scorer.templates import DEFAULTS, Template
from services.scorer.worker import ENDED, Worker

T = TypeVar("T")
Start = Callable[[], Awaitable[T]]

MEMORY_PART = 4
"""Of the memory that is free at the start, batches may take one part in so many, all workers together."""


class Backend(Protocol):
    """Attributes: `hidden` is None where vectors can only be written out; `templates` are those that can be read."""

    info: Info
    hidden: int | None
    templates: Mapping[str, Template]

    def check(self) -> None:
        """Raise `NotReady` where calls cannot be answered."""

    def score(self, call: ScoreCall, side: int) -> Start[Scores]:
        """A number a triple; `side` chooses the readout's own template."""

    def score_gradient(self, call: ScoreCall, given: ScoreGradient) -> Start[Gradients]:
        """Gradients of scores."""

    def encode(self, call: EncodeCall) -> Start[States]:
        """A state a query."""

    def encode_gradient(self, call: EncodeCall, grad_states: Floats) -> Start[Gradients]:
        """Gradients of states."""

    def chosen(self, call: ScoreCall, side: int) -> str:
        """The name of the template that a call's scores come from."""

    def waiting(self, kind: Kind) -> int:
        """Calls that wait."""

    def kept(self) -> int:
        """Bytes that are kept for gradient calls."""

    async def close(self) -> None:
        """Finish what waits, and end."""


class LlamaBackend:
    """A model in this process."""

    def __init__(self, settings: Settings, templates: Mapping[str, Template], metrics: Metrics) -> None:
        """Load the model and start its workers.

        Raises:
            LoadError: It cannot be loaded or used.
        """
        # Of this thread, which only prepares: OpenMP slows all its threads down once there are more than cores.
        torch.set_num_threads(1)
        loaded = load(settings)
        limits = settings.limits(loaded.model.config.max_position_embeddings)
        kept = Kept(settings.keep_seconds, settings.keep_bytes)
        device = loaded.model.get_input_embeddings().weight.device.type
        memory = available(device, spread=settings.device_map is not None) // MEMORY_PART
        try:
            self._engine = Engine(
                loaded,
                templates,
                limits,
                description_tokens=settings.description_tokens,
                batch_tokens=settings.batch_tokens,
                memory=memory // settings.workers,
                kept=kept,
            )
        except NoSingleTokens as error:
            raise LoadError(f"cannot use {loaded.name!r}: {error}") from error
        self.hidden: int | None = self._engine.hidden
        self.templates: Mapping[str, Template] = {
            name: c.template for name, c in self._engine.planner.templates.items()
        }
        self.info = _info(settings, loaded, self.templates, self._engine.batch_tokens, limits)
        self._worker = Worker(
            self._engine,
            metrics,
            workers=settings.workers,
            threads=settings.threads or max(1, (os.cpu_count() or 1) // settings.workers),
            merge=settings.merge,
        )

    def check(self) -> None:
        """Raise `NotReady` where a worker has died."""
        if not self._worker.alive:
            raise NotReady(ENDED)

    def score(self, call: ScoreCall, side: int) -> Start[Scores]:
        """As `Engine.score`, which says what is raised; so do its neighbours."""
        return self._start(self._engine.score(call, side))

    def score_gradient(self, call: ScoreCall, given: ScoreGradient) -> Start[Gradients]:
        """As `Engine.score_gradient`."""
        return self._start(self._engine.score_gradient(call, given))

    def encode(self, call: EncodeCall) -> Start[States]:
        """As `Engine.encode`."""
        return self._start(self._engine.encode(call))

    def encode_gradient(self, call: EncodeCall, grad_states: Floats) -> Start[Gradients]:
        """As `Engine.encode_gradient`."""
        return self._start(self._engine.encode_gradient(call, grad_states))

    def chosen(self, call: ScoreCall, side: int) -> str:
        """Raises `InvalidRequest` where there is no such template."""
        return self._engine.planner.chosen(call.template, call.readout, side)

    def waiting(self, kind: Kind) -> int:
        """Calls that wait."""
        return self._worker.waiting(kind)

    def kept(self) -> int:
        """Bytes that are kept for gradient calls."""
        return self._engine.kept.size

    async def close(self) -> None:
        """Let what waits finish."""
        await asyncio.to_thread(self._worker.close)

    def _start(self, task: Task) -> Start[T]:
        def start() -> Awaitable[T]:
            return asyncio.wrap_future(self._worker.submit(task))  # type: ignore[arg-type]  # the task's own result

        return start


class OpenAIBackend:
    """Another server's model; it gets prompts in words, and gives no vectors and no gradients."""

    hidden: int | None = None
    readouts = ("verdict", "number")

    def __init__(self, settings: Settings, templates: Mapping[str, Template]) -> None:
        """Raises `LoadError` where a setting is missing."""
        self._remote = Remote(settings)
        self.templates: Mapping[str, Template] = {
            name: template.model_copy(update={"readouts": usable})
            for name, template in templates.items()
            if (usable := [readout for readout in template.readouts if readout in self.readouts])
        }
        limits = settings.limits(settings.max_prompt_tokens)
        self.info = _info(settings, None, self.templates, 0, limits)

    def check(self) -> None:
        """It is ready as long as it runs: whether the server is, each call finds out."""

    def score(self, call: ScoreCall, side: int) -> Start[Scores]:
        """As `Remote.score`, which says what is raised."""
        template = self.templates[self.chosen(call, side)]
        if call.keep:
            raise InvalidRequest.of("keep", "the backend openai gives no gradients; leave it out")
        if call.entities.counts.any() or call.relations.counts.any():
            raise InvalidRequest.of("vectors_as", "the backend openai takes no vectors as they are; send `numbers`")
        return lambda: self._remote.score(call, template)

    def score_gradient(self, call: ScoreCall, given: ScoreGradient) -> Start[Gradients]:
        """There are none."""
        raise _not_offered()

    def encode(self, call: EncodeCall) -> Start[States]:
        """There are none."""
        raise _not_offered()

    def encode_gradient(self, call: EncodeCall, grad_states: Floats) -> Start[Gradients]:
        """There are none."""
        raise _not_offered()

    def chosen(self, call: ScoreCall, side: int) -> str:
        """Raises `InvalidRequest` where there is no such template, or no such readout."""
        if call.readout not in self.readouts:
            raise _not_offered()
        name = DEFAULTS[call.readout, side] if call.template is None else call.template
        if name not in self.templates or call.readout not in self.templates[name].readouts:
            raise InvalidRequest.of("template", f"the backend openai has no {name!r} for {call.readout}; see GET /info")
        return name

    def waiting(self, kind: Kind) -> int:
        """Calls do not wait here."""
        return 0

    def kept(self) -> int:
        """Nothing is kept."""
        return 0

    async def close(self) -> None:
        """Close the connections."""
        await self._remote.close()


def _not_offered() -> InvalidRequest:
    return InvalidRequest.of(
        "readout",
        f"the backend openai offers {' and '.join(OpenAIBackend.readouts)}, and no gradients; for the rest, call a "
        "scorer that runs a LLaMA itself",
    )


def _info(
    settings: Settings, loaded: Loaded | None, templates: Mapping[str, Template], batch_tokens: int, limits: Limits
) -> Info:
    config = loaded.model.config if loaded else None
    sides = [templates[name].hash for side in (TAIL, HEAD) if (name := DEFAULTS["state", side]) in templates]
    return Info(
        backend=settings.backend,
        model=settings.model,
        revision=loaded.revision if loaded else "remote",
        architecture="LlamaForCausalLM" if loaded else "remote",
        dtype=str(loaded.model.dtype).removeprefix("torch.") if loaded else "remote",
        device=str(loaded.model.device.type) if loaded else "remote",
        quantization=settings.quantization,
        hidden=config.hidden_size if config else 0,
        layers=config.num_hidden_layers if config else 0,
        vocabulary=config.vocab_size if config else 0,
        readouts=sorted({readout for template in templates.values() for readout in template.readouts}),
        templates={name: template.info for name, template in templates.items()},
        query_hash=combined_hash(sides),
        description_tokens=settings.description_tokens,
        batch_tokens=batch_tokens,
        merge=settings.merge,
        keep_seconds=settings.keep_seconds,
        limits=limits,
    )
