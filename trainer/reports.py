"""How work tells how far it is: in words, to whoever passed it a report."""

from collections.abc import Callable

Report = Callable[[str], None]
"""Told in words how far it is."""


def unheard(text: str) -> None:
    """A report that nobody listens to."""
