import asyncio
from collections import Counter
from pathlib import Path

import pytest
from sqlalchemy import func, select

from services.coordinator.identity.nonces import Nonces, Use
from services.coordinator.store.schema import Client, Nonce
from services.coordinator.store.store import open_store

from ..support import Clock, Local, members


def use(nonce: str, expires: float = 4e9, key: str = "k", client: str | None = None) -> Use:
    return Use(key, nonce, client, expires)


def test_a_nonce_is_new_once_and_after_a_restart_no_more(tmp_path: Path) -> None:
    async def take(nonces: Nonces, *uses: Use) -> list[bool]:
        return list(await asyncio.gather(*map(nonces.take, uses)))

    store = open_store(tmp_path)
    assert asyncio.run(take(Nonces(store), use("a"), use("b"), use("a"), use("a", key="l"))) == [
        True,
        True,
        False,
        True,
    ]
    assert asyncio.run(take(Nonces(store), use("a"), use("c"))) == [False, True]
    store.database.close()
    again = open_store(tmp_path)
    assert asyncio.run(take(Nonces(again), use("c"), use("d"))) == [False, True]
    again.database.close()


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_of_many_at_once_in_two_coordinators_exactly_one_is_first(
    tmp_path: Path, request: pytest.FixtureRequest, kind: str
) -> None:
    url = request.getfixturevalue("postgres_url") if kind == "postgresql" else None
    folders = [tmp_path / "one", tmp_path / "two"] if url else [tmp_path, tmp_path]
    stores = [open_store(folder, database_url=url) for folder in folders]

    async def race() -> Counter[str]:
        books = [Nonces(store) for store in stores]
        names = [f"n{i % 5}" for i in range(20)]
        taken = await asyncio.gather(*(book.take(use(name)) for name in names for book in books))
        return Counter(name for name, new in zip((n for n in names for _ in books), taken, strict=True) if new)

    try:
        assert asyncio.run(race()) == {f"n{i}": 1 for i in range(5)}
    finally:
        for store in stores:
            store.database.close()


def test_expired_nonces_go_and_who_is_seen_is_noted(local: Local) -> None:
    (one,) = members(1)
    local.join(one)
    clock: Clock = local.clock
    clock.now += 100

    async def take(*uses: Use) -> None:
        nonces = Nonces(local.store)
        for each in uses:
            assert await nonces.take(each)
            clock.now += 100

    asyncio.run(take(use("a", clock.now + 50, client=one.id), use("b", clock.now + 1000)))
    with local.store.database.read() as session:
        assert session.scalars(select(Nonce.nonce)).all() == ["b"]
        assert session.get_one(Client, one.id).seen == clock.now - 200
        assert session.execute(select(func.count()).select_from(Client)).scalar_one() == 1
