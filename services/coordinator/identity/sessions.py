"""Sessions of people who watch in a browser: signed words in a cookie, and nothing kept.

A session is `role.expires.mac`, an HMAC-SHA256 of the first two with the operators' token as its key. So every
coordinator that has the token takes it, also after a restart, and a new token ends them all.
"""

import hashlib
import hmac
import math
from dataclasses import dataclass
from typing import get_args

from protocol.problems import Unauthorized
from protocol.watching import WatcherRole
from services.coordinator.store import queries
from services.coordinator.store.store import Clock, Store

COOKIE = "tripleherd_session"
OPERATOR_SECONDS = 12 * 3600
VIEWER_SECONDS = 7 * 24 * 3600
"""A training may take days, and a viewer can change nothing."""


@dataclass(frozen=True)
class Session:
    """Who a browser speaks for, and until when (Unix seconds)."""

    role: WatcherRole
    expires: int
    value: str


class Sessions:
    """Makes sessions, and tells true ones."""

    def __init__(self, operator_token: bytes, clock: Clock) -> None:
        self._key = hmac.digest(operator_token, b"sessions of the page", hashlib.sha256)
        self._operator, self._clock = operator_token, clock

    def open(self, token: str) -> Session:
        """The session of whoever has this token: the operators', or a viewer's pass, which is a session itself.

        Raises:
            Unauthorized: It is neither, or the pass has expired.
        """
        if hmac.compare_digest(token.encode(errors="replace"), self._operator):
            return self._make("operator", OPERATOR_SECONDS)
        session = self.read(token)
        if session is None or session.role != "viewer":
            raise Unauthorized("this is neither the operators' token nor a viewer's pass that is still good")
        return session

    def viewer(self) -> Session:
        """A new viewer's session, to be given away as a pass."""
        return self._make("viewer", VIEWER_SECONDS)

    def read(self, value: str) -> Session | None:
        """The session that these words are; None if this coordinator did not make them, or they have expired."""
        role, _, rest = value.partition(".")
        expires, _, mac = rest.partition(".")
        if role not in get_args(WatcherRole) or not (expires.isascii() and expires.isdecimal() and len(expires) < 15):
            return None
        if not hmac.compare_digest(self._mac(role, expires).encode(), mac.encode(errors="replace")):
            return None
        if int(expires) <= self._clock():
            return None
        return Session(role, int(expires), value)  # type: ignore[arg-type]  # one of the roles

    def _make(self, role: WatcherRole, seconds: int) -> Session:
        expires = math.ceil(self._clock()) + seconds
        return Session(role, expires, f"{role}.{expires}.{self._mac(role, str(expires))}")

    def _mac(self, role: str, expires: str) -> str:
        return hmac.new(self._key, f"{role}.{expires}".encode(), hashlib.sha256).hexdigest()


def new_pass(store: Store, sessions: Sessions) -> Session:
    """A new viewer's session, to be given away; the audit log has it."""
    made = sessions.viewer()
    with store.database.write() as session:
        queries.record(session, store.clock(), "operator", "pass")
    return made
