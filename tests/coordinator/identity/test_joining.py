from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import select

from protocol.problems import Conflict, Forbidden, NotFound
from services.coordinator.identity.joining import client_with_secret, digest, join, remove
from services.coordinator.rounds.advance import advance
from services.coordinator.store import queries
from services.coordinator.store.schema import Client

from ..support import Local, Member, members


def test_the_same_join_key_is_the_same_client_with_a_fresh_secret(local: Local) -> None:
    (member,) = members(3)
    local.join(member)
    first, old = member.id, member.secret
    local.join(member)
    assert member.id == first
    assert client_with_secret(local.store, digest(member.secret)) == first
    assert client_with_secret(local.store, digest(old)) is None
    assert local.view().clients == 1


def test_other_entities_under_the_same_join_key_are_refused(local: Local) -> None:
    local.join(Member("a", ["x", "y"]))
    for entities in (["x"], ["y", "x"]):
        with pytest.raises(Conflict):
            local.join(Member("a", entities))


def test_equal_keys_meet_in_one_row(local: Local) -> None:
    one, two = Member("one", ["x", "y"]), Member("two", ["z", "y"])
    local.join(one, two)
    with local.store.database.read() as session:
        assert queries.entity_count(session) == 3
        assert list(queries.client_rows(session, one.id)) == [0, 1]
        assert list(queries.client_rows(session, two.id)) == [2, 1]


def test_rows_have_no_gaps_when_many_join_at_once(local: Local) -> None:
    crowd = members(*[40] * 8)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda member: join(local.store, member.request()), crowd))
    with local.store.database.read() as session:
        count = queries.entity_count(session)
        assert count == 47
        assert len(queries.entity_keys(session, 0, count)) == count


def test_more_entities_than_one_query_takes(local: Local) -> None:
    local.join(
        Member("large", [f"e{i}" for i in range(10_050)]), Member("again", [f"e{i}" for i in range(10_049, -1, -1)])
    )
    with local.store.database.read() as session:
        assert queries.entity_count(session) == 10_050


def test_secrets_and_join_keys_are_kept_as_digests(local: Local) -> None:
    (member,) = members(1)
    local.join(member)
    with local.store.database.read() as session:
        row = session.scalars(select(Client)).one()
    assert row.secret_digest == digest(member.secret)
    assert row.join_digest == digest(member.request().join_key)


def test_a_removed_member_is_no_longer_waited_for_nor_listened_to(local: Local) -> None:
    one, two, ghost = members(2, 2, 2)
    local.join(one, two, ghost)
    local.start(clients=3, quorum=3)
    local.send(one)
    local.send(two)
    first = local.view().round
    assert first is not None
    remove(local.store, ghost.id)
    advance(local.store)
    assert local.view().round == first + 1
    assert local.view().clients == 2
    assert client_with_secret(local.store, digest(ghost.secret)) is None
    with pytest.raises(Conflict, match="removed"):
        local.join(ghost)
    with pytest.raises(NotFound):
        remove(local.store, ghost.id)


def test_a_round_whose_clients_were_all_removed_waits_for_others(local: Local) -> None:
    one, late = members(2, 2)
    local.join(one)
    local.start()
    remove(local.store, one.id)
    advance(local.store)
    before = local.view().round
    local.join(late)
    advance(local.store)
    assert local.view(late).selected
    local.send(late)
    after = local.view().round
    assert before is not None
    assert after == before + 1


def test_who_joins_after_a_training_has_no_say_in_its_results(local: Local) -> None:
    one, late = members(2, 2)
    local.join(one)
    local.start(rounds=1)
    local.send(one)
    local.report(one, 0.5)
    assert local.view().phase == "finished"
    local.pass_time(1)
    local.join(late)
    local.report(one, 0.5, split="test")
    with pytest.raises(Forbidden, match="before this client joined"):
        local.report(late, 0.9, split="test")
