import hashlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from protocol.members import KeyRotation
from protocol.problems import Conflict, Forbidden, InvalidRequest, NotFound, Unauthorized
from services.coordinator.identity.joining import join, leave, revoke, rotate
from services.coordinator.identity.members import clients
from services.coordinator.rounds.advance import advance
from services.coordinator.rounds.audit import audit_log
from services.coordinator.store import queries
from services.coordinator.store.schema import Client

from ..support import Local, Member, members, signer


def test_the_same_key_is_the_same_client(local: Local) -> None:
    (member,) = members(3)
    local.join(member)
    renamed = Member("m0", member.entities, {"train": 99})
    local.join(renamed)
    assert renamed.id == member.id
    assert local.view().clients == 1
    with local.store.database.read() as session:
        assert session.get_one(Client, member.id).train == 99


def test_what_a_client_holds_changes_between_trainings_only(local: Local) -> None:
    before, after = Member("a", ["x", "y"]), Member("a", ["y", "z", "x"])
    local.join(before)
    local.join(after)
    local.start(rounds=1)
    for member in (before, Member("a", ["x", "y", "z"])):
        with pytest.raises(Conflict, match="when it has finished"):
            local.join(member)
    local.join(after)
    rows = local.share(after)["entities"]
    local.send(after, 1.0)
    local.report(after, 0.5)
    assert local.view().phase == "finished"
    local.join(before)
    assert np.allclose(local.share(before, 2)["entities"], rows[[2, 0]] + 1.0)


def test_equal_keys_meet_in_one_row(local: Local) -> None:
    one, two = Member("one", ["x", "y"]), Member("two", ["z", "y"])
    local.join(one, two)
    with local.store.database.read() as session:
        assert queries.row_count(session, "entities") == 3
        assert list(queries.client_rows(session, one.id, "entities")) == [0, 1]
        assert list(queries.client_rows(session, two.id, "entities")) == [2, 1]


def test_how_many_rows_a_member_shares_with_others(local: Local) -> None:
    one = Member("one", ["x", "y"], relations=["r", "s"])
    two, odd = Member("two", ["z", "y", "x"], relations=["s"]), Member("odd", ["another shared key's x"])

    def shared() -> dict[str, tuple[int, int]]:
        return {each.name: (each.shared_entities, each.shared_relations) for each in clients(local.store).clients}

    local.join(one)
    assert shared() == {"one": (0, 0)}
    local.join(two, odd)
    assert shared() == {"one": (2, 1), "two": (2, 1), "odd": (0, 0)}
    local.join(Member("odd", ["y", "q"]))  # what it holds has changed
    assert shared() == {"one": (2, 1), "two": (2, 1), "odd": (1, 0)}
    leave(local.store, two.id)
    assert shared() == {"one": (1, 0), "two": (0, 0), "odd": (1, 0)}


@pytest.mark.parametrize(("share", "lonely"), [("entities", ["odd"]), ("relations", ["odd", "two"]), ("both", ["odd"])])
def test_who_shares_nothing_with_anybody_is_told_so_while_rounds_run(
    local: Local, share: str, lonely: list[str]
) -> None:
    one, two = Member("one", ["x", "y"], relations=["r"]), Member("two", ["y"], relations=["s"])
    three, odd = Member("three", ["x"], relations=["r"]), Member("odd", ["another shared key's x"], relations=["q"])

    def alone() -> list[str]:
        return sorted(each.name for each in (one, two, three, odd) if local.view(each).alone)

    local.join(one)
    local.start(clients=4, share=share, relation_dim=4 if share != "entities" else None)
    assert alone() == []
    local.join(two, three, odd)
    assert alone() == lonely
    assert not local.view().alone


def test_what_a_member_holds_may_change_until_rounds_begin(local: Local) -> None:
    one, two = Member("one", ["x"]), Member("two", ["y", "x"])
    local.join(one)
    local.start(clients=2)
    leave(local.store, one.id)
    local.join(Member("one", ["y"]))
    local.join(Member("one", ["y", "z"]))
    local.join(two)
    assert local.view().round == 1
    assert set(local.share(Member("one", ["y", "z"]))) == {"entities"}
    with pytest.raises(Conflict, match=r"or the shared key .* has changed.* have an operator stop it, join"):
        local.join(Member("one", ["y"]))


def test_who_is_refused_leaves_no_rows(local: Local) -> None:
    busy, gone = Member("busy", ["x"]), Member("gone", ["x"])
    local.join(busy, gone)
    local.start()
    revoke(local.store, gone.id)
    for member, reason in ((Member("busy", ["new"]), Conflict), (Member("gone", ["other"]), Forbidden)):
        with pytest.raises(reason):
            local.join(member)
    with local.store.database.read() as session:
        assert queries.row_count(session, "entities") == 1


def test_rows_have_no_gaps_when_many_join_at_once(local: Local) -> None:
    crowd = members(*[40] * 8)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda member: join(local.store, member.request()), crowd))
    with local.store.database.read() as session:
        count = queries.row_count(session, "entities")
        assert count == 47
        assert len(queries.row_keys(session, "entities", 0, count)) == count


def test_more_entities_than_one_query_takes(local: Local) -> None:
    local.join(
        Member("large", [f"e{i}" for i in range(10_050)]), Member("again", [f"e{i}" for i in range(10_049, -1, -1)])
    )
    with local.store.database.read() as session:
        assert queries.row_count(session, "entities") == 10_050


def test_relations_have_rows_of_their_own(local: Local) -> None:
    one, two = Member("one", ["x"], relations=["r", "s"]), Member("two", ["x"], relations=["s", "t"])
    local.join(one, two)
    with local.store.database.read() as session:
        assert (queries.row_count(session, "entities"), queries.row_count(session, "relations")) == (1, 3)
        assert list(queries.client_rows(session, two.id, "relations")) == [1, 2]


def test_every_join_rotation_and_removal_is_in_the_audit_log(local: Local) -> None:
    one, two = members(1, 1)
    local.join(one, two)
    new = signer("new")
    rotate(local.store, one.id, KeyRotation(public_key=new.public_key, proof=new.prove(one.id)), one.id)
    leave(local.store, two.id)
    local.join(two)
    revoke(local.store, two.id)
    log = audit_log(local.store, None, 100).entries[::-1]
    assert [(each.who, each.did) for each in log] == [
        (one.id, "join"),
        (two.id, "join"),
        (one.id, "rotate"),
        (two.id, "leave"),
        (two.id, "rejoin"),
        ("operator", "revoke"),
    ]
    assert log[0].digest == hashlib.sha256(one.request().model_dump_json().encode()).hexdigest()
    first = audit_log(local.store, None, 4)
    assert ([e.number for e in first.entries], first.next_before) == ([6, 5, 4, 3], 3)
    rest = audit_log(local.store, first.next_before, 4)
    assert ([e.number for e in rest.entries], rest.next_before) == ([2, 1], None)


def test_a_removed_member_is_no_longer_waited_for_nor_listened_to(local: Local) -> None:
    one, two, ghost = members(2, 2, 2)
    local.join(one, two, ghost)
    local.start(clients=3, quorum=2)
    local.send(one)
    local.send(two)
    first = local.view().round
    assert first is not None
    revoke(local.store, ghost.id)
    advance(local.store)
    assert local.view().round == first + 1
    assert local.view().clients == 2
    with pytest.raises(Forbidden, match="removed"):
        local.join(ghost)
    with pytest.raises(NotFound):
        revoke(local.store, ghost.id)


def test_a_round_whose_clients_were_all_removed_waits_for_others(local: Local) -> None:
    one, late = members(2, 2)
    local.join(one)
    local.start()
    revoke(local.store, one.id)
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


def rotate_to(local: Local, client: str, name: str) -> None:
    key = signer(name)
    with local.store.database.read() as session:
        present = queries.present_key(session, client).id
    rotate(local.store, client, KeyRotation(public_key=key.public_key, proof=key.prove(client)), present)


def test_a_rotation_that_was_signed_before_another_one_comes_too_late(local: Local) -> None:
    """Who has stolen a key and holds a request back is put out by the owner's rotation."""
    (one,) = members(2)
    local.join(one)
    rotate_to(local, one.id, "the owner's")
    thief = signer("the thief's")
    late = KeyRotation(public_key=thief.public_key, proof=thief.prove(one.id))
    with pytest.raises(Unauthorized, match="replaced"):
        rotate(local.store, one.id, late, one.id)
    with local.store.database.read() as session:
        assert queries.present_key(session, one.id).id == signer("the owner's").key_id


def test_who_left_comes_back_with_the_present_key_as_the_same_client(local: Local) -> None:
    (one,) = members(2)
    local.join(one)
    rotate_to(local, one.id, "second")
    leave(local.store, one.id)
    with pytest.raises(Forbidden, match="replaced this key"):
        join(local.store, one.request())
    again = one.request().model_copy(update={"public_key": signer("second").public_key})
    assert join(local.store, again).client == one.id
    assert local.view().clients == 1


def test_a_key_is_one_client_s_for_ever(local: Local) -> None:
    one, two = members(2, 2)
    local.join(one, two)
    rotate_to(local, one.id, "second")
    events = local.view().event
    rotate_to(local, one.id, "second")
    assert local.view().event == events
    for name in ("m0", "m1"):
        with pytest.raises(Conflict, match="make a new one"):
            rotate_to(local, one.id, name)
        with pytest.raises(Conflict, match="make a new one"):
            rotate_to(local, two.id, "second")


def test_a_proof_is_of_one_client_and_one_key(local: Local) -> None:
    one, two = members(2, 2)
    local.join(one, two)
    new, other = signer("new"), signer("other")
    for key, proof in ((new, new.prove(two.id)), (new, other.prove(one.id)), (new, "A" * 86)):
        with pytest.raises(InvalidRequest, match="proof"):
            rotate(local.store, one.id, KeyRotation(public_key=key.public_key, proof=proof), one.id)
    with pytest.raises(InvalidRequest, match="public_key"):
        rotate(local.store, one.id, KeyRotation(public_key="A" * 42 + "B", proof=new.prove(one.id)), one.id)


def test_revoking_is_final_also_for_who_has_left_and_unknown_clients_are_named(local: Local) -> None:
    (one,) = members(2)
    local.join(one)
    leave(local.store, one.id)
    revoke(local.store, one.id)
    with pytest.raises(Forbidden, match="removed by an operator"):
        local.join(one)
    with pytest.raises(NotFound, match="there is no member nobody"):
        revoke(local.store, "nobody")
