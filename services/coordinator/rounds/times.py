"""Unix seconds, as the database holds them, to what messages hold."""

from datetime import UTC, datetime
from typing import overload


@overload
def moment(seconds: float) -> datetime: ...
@overload
def moment(seconds: None) -> None: ...
def moment(seconds: float | None) -> datetime | None:
    """The time in UTC; None stays None."""
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)
