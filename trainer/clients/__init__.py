"""Typed clients of both services: what the trainer calls them with, and what programs and notebooks may call too.

`Scorer` and `Coordinator` have a method a route; both call through a `Service`, which retries and signs.
"""

from trainer.clients.coordinator import Coordinator
from trainer.clients.retries import ServiceUnreachable
from trainer.clients.scorer import Scorer
from trainer.clients.service import AddressWrong, ClockWrong, Service

__all__ = ["AddressWrong", "ClockWrong", "Coordinator", "Scorer", "Service", "ServiceUnreachable"]
