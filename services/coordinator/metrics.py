"""What the coordinator counts and shows, for Prometheus: requests, rounds, updates, and how current each client is."""

from collections.abc import Iterator
from typing import Any, get_args

from prometheus_client import Gauge, Histogram
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from sqlalchemy import func, select

from protocol.rounds import Phase
from services.coordinator.rounds.views import Snapshot
from services.coordinator.store import queries
from services.coordinator.store.schema import Client, Update
from services.coordinator.store.store import Store
from services.metrics import RequestMetrics

LATENCIES = (1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 4 * 3600, 86_400)
"""Buckets from clients on the same machine to sites that train for hours."""
PHASES: tuple[Phase, ...] = get_args(Phase)
PREFIX = "tripleherd_coordinator_"


class Metrics(RequestMetrics):
    """The numbers of one application. What the database knows is asked when they are rendered."""

    def __init__(self, store: Store) -> None:
        super().__init__("coordinator")
        named: dict[str, Any] = {"namespace": "tripleherd", "subsystem": "coordinator", "registry": self.registry}
        self._round = Gauge("round", "Number of the current round.", **named)
        self._phase = Gauge("phase", "1 for the phase that the current training is in.", ["phase"], **named)
        self._clients = Gauge("clients", "Members.", **named)
        self._latency = Histogram(
            "update_seconds",
            "Seconds from the drawing of a round's clients, or its renewal, to an accepted update.",
            buckets=LATENCIES,
            **named,
        )
        self.registry.register(_Clients(store))

    def seen(self, snapshot: Snapshot) -> None:
        """Something has changed."""
        view = snapshot.common
        if view.round is not None:
            self._round.set(view.round)
        self._clients.set(view.clients)
        for phase in PHASES:
            self._phase.labels(phase).set(phase == view.phase)

    def took_update(self, seconds: float) -> None:
        """An update came so many seconds after its client was drawn."""
        self._latency.observe(max(0.0, seconds))


class _Clients(Collector):
    """How current each member is, by its id."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def describe(self) -> list[Metric]:
        """Nothing, so that registering asks no database."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Ask the database."""
        behind = GaugeMetricFamily(
            PREFIX + "client_rounds_behind", "Rounds since a client's latest update.", labels=["client"]
        )
        silent = GaugeMetricFamily(
            PREFIX + "client_silent_seconds", "Seconds since a client's latest request.", labels=["client"]
        )
        now = self._store.clock()
        with self._store.database.read() as session:
            last = queries.last_number(session) or 0
            latest = select(Update.client, func.max(Update.round).label("round")).group_by(Update.client).subquery()
            rows = select(Client.id, Client.seen, latest.c.round).where(Client.removed.is_(None))
            for client, seen, round in session.execute(rows.outerjoin(latest, latest.c.client == Client.id)):
                behind.add_metric([client], last - (round or 0))
                silent.add_metric([client], max(0.0, now - seen))
        yield behind
        yield silent
