"""How much the members hold in common: rows that one of them holds alone are averaged with nobody's."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from sqlalchemy import select
from sqlalchemy.orm import Session

from protocol.trainings import Share
from services.coordinator.store import queries
from services.coordinator.store.schema import Client


class Shared(NamedTuple):
    """Of a member's entities and relations, how many some other member holds too."""

    entities: int
    relations: int

    def of(self, share: Share) -> int:
        """Of what a training shares."""
        return {"entities": self.entities, "relations": self.relations, "both": sum(self)}[share]


class Overlap:
    """Counts what members share, once for each change of who is a member and what they hold."""

    def __init__(self) -> None:
        self._last: tuple[Sequence[tuple[str, str]], dict[str, Shared]] = ((), {})

    def of_members(self, session: Session) -> dict[str, Shared]:
        """By client id. Who has left or was removed is not there, and counts for nobody."""
        held = select(Client.id, Client.keys_digest).where(Client.removed.is_(None)).order_by(Client.id)
        members = [(client, digest) for client, digest in session.execute(held)]
        counted, shared = self._last
        if members != counted:
            shared = _count(session, [client for client, _ in members])
            self._last = members, shared
        return shared

    def of_able(self, session: Session, share: Share) -> dict[str, int]:
        """By client id, of those that can take part in a training that shares this: how many rows of it they share."""
        members = self.of_members(session)
        return {client: members[client].of(share) for client in queries.able_clients(session, share)}


def alone(shared: Mapping[str, int]) -> frozenset[str]:
    """Who, beside others, shares nothing: `shared` is as `of_able` has it."""
    return frozenset(client for client, rows in shared.items() if not rows and len(shared) > 1)


def _count(session: Session, members: Sequence[str]) -> dict[str, Shared]:
    entities, relations = (_held_elsewhere(session, members, kind) for kind in ("entities", "relations"))
    return {client: Shared(entities[i], relations[i]) for i, client in enumerate(members)}


def _held_elsewhere(session: Session, members: Sequence[str], kind: queries.Kind) -> list[int]:
    """By member, in order; read twice, a member at a time, as all of their rows may be more than fits the memory."""
    holders = np.zeros(queries.row_count(session, kind), np.int64)
    for client in members:
        holders[queries.client_rows(session, client, kind)] += 1
    return [int((holders[queries.client_rows(session, client, kind)] > 1).sum()) for client in members]
