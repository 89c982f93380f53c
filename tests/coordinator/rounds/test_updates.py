import hashlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from protocol.members import KeyRotation
from protocol.problems import Conflict, Forbidden, InvalidRequest, Unauthorized
from services.coordinator.identity.joining import revoke, rotate
from services.coordinator.rounds.evaluations import accept_evaluation
from services.coordinator.rounds.updates import MAX_MAGNITUDE, accept_update, admission
from services.coordinator.store import queries

from ..support import Local, Member, evaluation, members, signer

DENSE = {"w": {"shape": [2], "init": 0.1}}


@pytest.fixture
def opened(local: Local) -> tuple[Local, list[Member]]:
    crowd = members(3, 3)
    local.start(clients=2, dense=DENSE)
    local.join(*crowd)
    return local, crowd


def stored(local: Local) -> int:
    with local.store.database.read() as session:
        return len(queries.updates(session, 1))


def test_the_same_body_gets_the_same_receipt(opened: tuple[Local, list[Member]]) -> None:
    local, (member, other) = opened
    body = member.trained(local.share(member))
    first, new = local.put(member, 1, body)
    again, repeated = local.put(member, 1, body)
    assert (first == again, new, repeated) == (True, True, False)
    local.send(other)
    assert local.view().round == 2
    assert local.put(member, 1, body) == (first, False)


def test_ten_times_at_once_is_one_update(opened: tuple[Local, list[Member]]) -> None:
    local, (member, _) = opened
    body = member.trained(local.share(member))
    with ThreadPoolExecutor(10) as pool:
        replies = list(pool.map(lambda _: local.put(member, 1, body), range(10)))
    assert len({receipt.digest for receipt, _ in replies}) == 1
    assert sum(new for _, new in replies) == 1
    assert stored(local) == 1


@pytest.mark.parametrize("steps", [(0.1, 0.2), (0.2, 0.1)])
def test_the_first_of_two_bodies_stands(opened: tuple[Local, list[Member]], steps: tuple[float, float]) -> None:
    local, (member, other) = opened
    share = local.share(member)
    local.send(member, steps[0])
    with pytest.raises(Conflict) as caught:
        local.send(member, steps[1])
    assert caught.value.extra == {"current_round": 1}
    local.send(other, 0.0)
    moved = local.share(member)["entities"][0]
    assert np.array_equal(moved, share["entities"][0] + np.float32(steps[0]))


@pytest.mark.parametrize("number", [2, 99])
def test_another_round_is_a_conflict_that_names_the_current_one(
    opened: tuple[Local, list[Member]], number: int
) -> None:
    local, (member, _) = opened
    with pytest.raises(Conflict) as caught:
        local.send(member, round=number)
    assert caught.value.extra == {"current_round": 1}


def test_a_closed_round_takes_no_update(opened: tuple[Local, list[Member]]) -> None:
    local, (member, _) = opened
    local.send(member)
    local.pass_time(61)
    assert local.view().round == 2
    late = opened[1][1]
    with pytest.raises(Conflict) as caught:
        local.send(late, round=1)
    assert caught.value.extra == {"current_round": 2}


def test_who_joined_later_is_not_selected(opened: tuple[Local, list[Member]]) -> None:
    local, _ = opened
    late = Member("late", ["e0"])
    local.join(late)
    assert not local.view(late).selected
    with pytest.raises(Forbidden):
        local.send(late)


BAD = [
    ("entities", lambda t: {**t, "entities": t["entities"][:2]}),
    ("entities", lambda t: {**t, "entities": t["entities"].astype(np.int32)}),
    ("entities", lambda t: {"dense.w": t["dense.w"]}),
    ("entities", lambda t: {**t, "entities": t["entities"] * np.float32("nan")}),
    ("dense.w", lambda t: {**t, "dense.w": np.array([np.inf, 0], np.float32)}),
    ("dense.w", lambda t: {**t, "dense.w": np.array([0, -2 * MAX_MAGNITUDE], np.float32)}),
    ("dense.w", lambda t: {**t, "dense.w": np.zeros(3, np.float32)}),
    ("dense.v", lambda t: {**t, "dense.v": np.zeros(3, np.float32)}),
]


@pytest.mark.parametrize(("tensor", "spoil"), BAD)
def test_the_tensor_at_fault_is_named(opened: tuple[Local, list[Member]], tensor: str, spoil: object) -> None:
    local, (member, _) = opened
    assert callable(spoil)
    body = member.body(spoil(local.share(member)))
    event = local.view().event
    with pytest.raises(InvalidRequest) as caught:
        local.put(member, 1, body)
    assert caught.value.errors[0].field == tensor
    assert (stored(local), local.view().event) == (0, event)


@pytest.mark.parametrize(
    "header", [{"triples": 0}, {"triples": -1}, {"triples": 11}, {"loss": float("nan")}, {"more": 1}]
)
def test_the_message_is_checked(opened: tuple[Local, list[Member]], header: dict[str, object]) -> None:
    local, (member, _) = opened
    with pytest.raises(InvalidRequest) as caught:
        local.put(member, 1, member.body(local.share(member), **header))
    assert caught.value.errors[0].field == f"message.{next(iter(header))}"


def test_frequencies_are_counts_of_the_client_s_own_triples(local: Local) -> None:
    (one,) = members(2)
    local.start(aggregation={"strategy": "frequency"})
    local.join(one)
    share = local.share(one)
    for counts in ([-1, 3], [3, 21]):
        with pytest.raises(InvalidRequest) as caught:
            local.put(one, 1, one.body({**share, "frequencies": np.array(counts, np.int32)}))
        assert caught.value.errors[0].field == "frequencies"
    assert stored(local) == 0
    local.put(one, 1, one.body({**share, "frequencies": np.array([1, 10], np.int32)}))
    assert stored(local) == 1


def test_who_is_removed_while_its_update_comes_is_not_counted(opened: tuple[Local, list[Member]]) -> None:
    local, (member, _) = opened
    body = member.trained(local.share(member))
    admitted = admission(local.store, member.id, 1)
    revoke(local.store, member.id)
    file = local.store.blobs.temporary()
    file.write_bytes(body)
    with pytest.raises(Forbidden, match="no member any more"):
        accept_update(local.store, member.id, member.id, 1, admitted, file, hashlib.sha256(body).hexdigest())
    assert stored(local) == 0
    assert local.store.blobs.updates() == set()


def test_a_key_that_is_replaced_while_its_request_comes_speaks_no_more(opened: tuple[Local, list[Member]]) -> None:
    local, crowd = opened
    member, body = crowd[0], crowd[0].trained(local.share(crowd[0]))
    admitted = admission(local.store, member.id, 1)
    new = signer("new key")
    rotation = KeyRotation(public_key=new.public_key, proof=new.prove(member.id))
    rotate(local.store, member.id, rotation, member.signer.key_id)

    def sent(key: str) -> bool:
        file = local.store.blobs.temporary()
        file.write_bytes(body)
        digest = hashlib.sha256(body).hexdigest()
        return accept_update(local.store, member.id, key, 1, admitted, file, digest)[1]

    with pytest.raises(Unauthorized, match="replaced by another"):
        sent(member.signer.key_id)
    assert (stored(local), local.store.blobs.updates()) == (0, set())
    assert sent(new.key_id)
    with pytest.raises(Unauthorized, match="replaced by another"):
        accept_evaluation(local.store, member.id, member.signer.key_id, 1, evaluation(0.5))
