"""What the scorer counts and times, for Prometheus. Each application has its own registry."""

from collections.abc import Callable
from functools import partial
from typing import Any, Literal, get_args

from prometheus_client import Counter, Gauge, Histogram

from services.metrics import SECONDS, RequestMetrics

Kind = Literal["forward", "gradient"]
KINDS_OF_WORK: tuple[Kind, ...] = get_args(Kind)

SHARES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1)
CALLS = (1, 2, 4, 8, 16, 32, 64)


class Metrics(RequestMetrics):
    """The numbers of one application. Every method is safe in any thread and takes microseconds, but `render`.

    Labels: `route` is a route's template or `other`, `reason` a kind of problem, `kind` is `forward` or `gradient`.
    """

    def __init__(self) -> None:
        super().__init__("scorer")
        named: dict[str, Any] = {"namespace": "tripleherd", "subsystem": "scorer", "registry": self.registry}
        self._add_work(named)
        self._add_waiting(named)

    def _add_work(self, named: dict[str, Any]) -> None:
        prompts = Counter("prompts", "Prompts that ran.", ["kind"], **named)
        tokens = Counter("tokens", "Tokens that ran.", ["kind"], **named)
        shared = Counter("shared_tokens", "Tokens saved, as prompts shared them.", ["kind"], **named)
        seconds = Histogram("forward_seconds", "Seconds a batch ran.", ["kind"], buckets=SECONDS, **named)
        self._prompts, self._tokens, self._shared = map(_by_kind, (prompts, tokens, shared))
        self._seconds = {kind: seconds.labels(kind) for kind in KINDS_OF_WORK}
        self._fill = Histogram("batch_fill", "Tokens of a batch as a share of the budget.", buckets=SHARES, **named)
        self._calls = Histogram("batch_calls", "Calls merged in a batch.", buckets=CALLS, **named)

    def _add_waiting(self, named: dict[str, Any]) -> None:
        waits = Histogram("queue_wait_seconds", "Seconds a call waited to run.", ["kind"], buckets=SECONDS, **named)
        self._waits = {kind: waits.labels(kind) for kind in KINDS_OF_WORK}
        self._dropped = Counter("dropped", "Calls whose caller went away before they ran.", **named)
        self._queue_length = Gauge("queue_length", "Calls that wait.", ["kind"], **named)
        self._kept_bytes = Gauge("kept_bytes", "Bytes kept for gradients to come, estimated.", **named)

    def watch(self, queue_length: Callable[[Kind], int], kept_bytes: Callable[[], int]) -> None:
        """Ask these, from any thread, whenever the numbers are rendered."""
        for kind in KINDS_OF_WORK:
            self._queue_length.labels(kind).set_function(partial(queue_length, kind))
        self._kept_bytes.set_function(kept_bytes)

    def waited(self, kind: Kind, seconds: float) -> None:
        """A call starts to run after so many seconds in the queue."""
        self._waits[kind].observe(seconds)

    def dropped(self) -> None:
        """A call's caller went away before it ran."""
        self._dropped.inc()

    def ran(
        self, kind: Kind, *, prompts: int, tokens: int, shared: int, calls: int, fill: float, seconds: float
    ) -> None:
        """A batch ran: `tokens` positions went through the model, `shared` did not have to; `fill` is from 0 to 1."""
        self._prompts[kind].inc(prompts)
        self._tokens[kind].inc(tokens)
        self._shared[kind].inc(shared)
        self._calls.observe(calls)
        self._fill.observe(fill)
        self._seconds[kind].observe(seconds)


def _by_kind(counter: Counter) -> dict[Kind, Counter]:
    return {kind: counter.labels(kind) for kind in KINDS_OF_WORK}
