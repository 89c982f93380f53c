"""The members as operators see them."""

from typing import Literal, cast

from sqlalchemy import select

from protocol.members import Clients, ClientSummary
from services.coordinator.rounds.times import moment
from services.coordinator.store import queries
from services.coordinator.store.overlap import Shared
from services.coordinator.store.schema import Client, Key
from services.coordinator.store.store import Store

NOTHING = Shared(entities=0, relations=0)


def clients(store: Store) -> Clients:
    """All that ever joined, in the order of joining, with what they sent."""
    sent = queries.sent().subquery()
    rows = (
        select(Client, Key.id, sent.c.updates, sent.c.bytes, sent.c.last_round)
        .join(Key, (Key.client == Client.id) & Key.ended.is_(None))
        .outerjoin(sent, sent.c.client == Client.id)
        .order_by(Client.joined, Client.id)
    )
    with store.database.read() as session:
        shared = store.overlap.of_members(session)
        return Clients(
            clients=[
                ClientSummary(
                    client=client.id,
                    name=client.name,
                    key=key,
                    joined=moment(client.joined),
                    seen=moment(client.seen),
                    removed=moment(client.removed),
                    removed_by=cast(Literal["operator", "client"] | None, client.removed_by),
                    entities=client.entities,
                    relations=client.relations,
                    shared_entities=shared.get(client.id, NOTHING).entities,
                    shared_relations=shared.get(client.id, NOTHING).relations,
                    triples={"train": client.train, "valid": client.valid, "test": client.test},
                    updates=updates or 0,
                    bytes=size or 0,
                    last_round=last_round,
                )
                for client, key, updates, size, last_round in session.execute(rows)
            ]
        )
