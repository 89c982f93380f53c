"""Which calls of a service are tried again, how often, and for how long.

A call is tried again where the service did not answer, failed, is busy, is not ready or has no room; a refusal is
final.
"""

from collections.abc import Callable

import httpx
from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_attempt, stop_after_delay
from tenacity.wait import wait_exponential, wait_random

from protocol.problems import Busy, NotReady, ProblemError, StorageFull

GIVE_UP_AFTER = 300.0
"""Seconds without an answer after which a call fails: long enough for a service to be started again."""
ASKED_GIVES_UP_AFTER = 20.0
"""For a person who waits for the answer, and would rather be told that there is none."""
MEMBER_GIVES_UP_AFTER = 86_400.0
"""For a member of a federation, unless told otherwise: it can as well wait until a machine is mended."""
MIN_ATTEMPTS = 3
_UNITS = ((3600, "hours"), (60, "minutes"), (1, "s"))


class ServiceFailed(ProblemError):
    """A service went on failing until the call gave up."""


class ServiceUnreachable(Exception):
    """A service did not answer until the call gave up; the message names the address."""


NOT_DONE = httpx.ConnectError | httpx.ConnectTimeout | Busy | StorageFull
"""Nothing of the call was done; after any other failure that may pass, it may have been."""
GIVEN_UP = (ServiceUnreachable, ServiceFailed, NotReady, StorageFull, Busy)
"""What a call ends with that was tried for as long as it should be, and may succeed later."""


def retrying(give_up_after: float, failed: Callable[[RetryCallState], None]) -> Retrying:
    """How one call is made: `failed` is told of each attempt after which it is tried again."""
    return Retrying(
        retry=retry_if_exception(may_pass),
        # A call that hung for longer than that is tried again all the same.
        stop=stop_after_delay(give_up_after) & stop_after_attempt(MIN_ATTEMPTS),
        wait=_wait,
        before_sleep=failed,
        reraise=True,
    )


def may_pass(error: BaseException) -> bool:
    """Whether the same call may succeed later."""
    return isinstance(error, httpx.TransportError | Busy | NotReady | ServiceFailed | StorageFull)


def span(seconds: float) -> str:
    """A time in words."""
    return next(f"{seconds / unit:.0f} {name}" for unit, name in _UNITS if seconds >= 2 * unit or unit == 1)


_backoff = wait_exponential(multiplier=0.2, max=10.0) + wait_random(0.0, 1.0)


def _wait(state: RetryCallState) -> float:
    """Seconds to wait: what a busy service asked for, or exponentially longer, with jitter."""
    error = state.outcome.exception() if state.outcome else None
    return max(error.retry_after if isinstance(error, Busy) else 0.0, _backoff(state))
