"""Nonces: a signed request is taken once, also after a restart, and by one of several coordinators on one database."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import delete, update
from sqlalchemy.dialects import postgresql, sqlite

from services.coordinator.store.schema import Client, Nonce
from services.coordinator.store.store import Store

PURGE_SECONDS = 60.0
AT_ONCE = 500
"""Nonces of one statement, under SQLite's bound on parameters."""


@dataclass(frozen=True)
class Use:
    """A nonce that a request brings, and until when a signature with it could be taken."""

    key: str
    nonce: str
    client: str | None
    expires: float


class Nonces:
    """Takes nonces. All that come while a transaction runs share the next one: a commit costs as much for a hundred."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._waiting: list[tuple[Use, asyncio.Future[bool]]] = []
        self._working: asyncio.Task[None] | None = None
        self._purged = 0.0

    async def take(self, use: Use) -> bool:
        """Whether the nonce is new; it is not any more."""
        taken: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting.append((use, taken))
        if self._working is None or self._working.done():
            self._working = asyncio.create_task(self._work())
        return await taken

    async def _work(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting[:AT_ONCE], self._waiting[AT_ONCE:]
            try:
                new = await asyncio.to_thread(self._insert, [use for use, _ in batch])
            except Exception as error:
                for _, taken in batch:
                    if not taken.done():
                        taken.set_exception(error)
                continue
            for use, taken in batch:
                if not taken.done():  # its request may have been cancelled
                    taken.set_result((use.key, use.nonce) in new)
                    new.discard((use.key, use.nonce))  # the same nonce twice in a batch is new once

    def _insert(self, uses: Sequence[Use]) -> set[tuple[str, str]]:
        """Keep those that are new, and say which they were."""
        now = self._store.clock()
        rows = {(use.key, use.nonce): use.expires for use in uses}
        with self._store.database.write() as session:
            dialect = postgresql if session.get_bind().dialect.name == "postgresql" else sqlite
            values = [{"key": key, "nonce": nonce, "expires": expires} for (key, nonce), expires in rows.items()]
            insert = dialect.insert(Nonce).on_conflict_do_nothing().returning(Nonce.key, Nonce.nonce)
            new = {(row.key, row.nonce) for row in session.execute(insert, values)}
            seen = {use.client for use in uses if (use.key, use.nonce) in new}
            session.execute(update(Client).where(Client.id.in_(seen)).values(seen=now))
            if now - self._purged > PURGE_SECONDS:
                session.execute(delete(Nonce).where(Nonce.expires < now))
                self._purged = now
        return new
