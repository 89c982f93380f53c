"""What both services count of their requests, for Prometheus. Each application has its own registry."""

from typing import Any

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)

from protocol.problems import KINDS, ProblemError
from services.logs import Ended

# Each series would have a second one, with the time of its start, which the text format cannot tell from a gauge.
disable_created_metrics()  # type: ignore[no-untyped-call]  # the library's own

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
"""Buckets from a call that is answered out of memory to one that fills every limit."""

REASONS = {ProblemError.status: ProblemError.kind} | {status: problem.kind for status, problem in KINDS.items()}


class RequestMetrics:
    """The numbers of an application's requests and of its process, and the registry for its own.

    Labels: `route` is a route's template or `other`, `reason` a kind of problem.
    """

    def __init__(self, service: str) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        named: dict[str, Any] = {"namespace": "tripleherd", "subsystem": service, "registry": self.registry}
        self._requests = Counter("requests", "Requests that ended.", ["route", "status"], **named)
        self._refusals = Counter("refusals", "Requests refused, by kind of problem.", ["route", "reason"], **named)
        self._received = Counter("received_bytes", "Bytes of requests' bodies.", ["route"], **named)
        self._sent = Counter("sent_bytes", "Bytes of responses' bodies.", ["route"], **named)
        self._request_seconds = Histogram(
            "request_seconds", "Seconds from a request to the end of its response.", ["route"], buckets=SECONDS, **named
        )

    def answered(self, ended: Ended) -> None:
        """A request ended. A problem's status says why it was refused."""
        self._requests.labels(ended.route, ended.status).inc()
        self._request_seconds.labels(ended.route).observe(ended.seconds)
        self._received.labels(ended.route).inc(ended.bytes_in)
        self._sent.labels(ended.route).inc(ended.bytes_out)
        if reason := REASONS.get(ended.status):
            self._refusals.labels(ended.route, reason).inc()

    def render(self) -> tuple[bytes, str]:
        """The body of `GET /metrics` and its media type."""
        return generate_latest(self.registry), CONTENT_TYPE_LATEST
