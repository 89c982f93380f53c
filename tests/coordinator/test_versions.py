import numpy as np
import pytest

from protocol.federation import model_tensors
from protocol.problems import NotFound
from protocol.tensors import decode, encode
from services.coordinator.initial import entity_rows
from services.coordinator.versions import client_share

from .support import Local, Member, key, members, settings


def test_rows_come_in_the_clients_own_order(local: Local) -> None:
    one, two = Member("one", ["x", "y", "z"]), Member("two", ["z", "x"])
    local.start(clients=2)
    local.join(one, two)
    mine, theirs = local.share(one)["entities"], local.share(two)["entities"]
    assert np.array_equal(theirs, mine[[2, 0]])
    assert np.abs(mine).max() <= np.float32(0.05)


def test_the_message_names_training_and_round(local: Local) -> None:
    (one,) = members(2)
    training = local.start()
    local.join(one)
    _, message = decode(client_share(local.store, one.id, 1), model_tensors(settings(), 2))
    assert message == {"training": training, "round": 1}


def test_who_joins_after_a_version_was_made_finds_initial_rows(local: Local) -> None:
    (one,) = members(1)
    late = Member("late", ["later", "e0"])
    local.start()
    local.join(one)
    local.join(late)
    rows = local.share(late)["entities"]
    assert rows[1].tobytes() == local.share(one)["entities"][0].tobytes()
    assert rows[0].any()


def test_versions_that_are_not_there(local: Local) -> None:
    (one,) = members(1)
    local.start()
    local.join(one)
    for _ in range(2):
        local.send(one)
    for number in (1, 2, 99):
        with pytest.raises(NotFound) as caught:
            client_share(local.store, one.id, number)
        assert caught.value.extra == {"current_round": 3}


def test_a_model_does_not_depend_on_who_joined_first(local: Local) -> None:
    one, two = Member("one", ["x", "y"]), Member("two", ["y", "z"])
    local.join(two, one)
    local.start(clients=2)
    rows = np.concatenate([local.share(one)["entities"], local.share(two)["entities"][1:]])
    keys = [bytes.fromhex(key(name)) for name in "xyz"]
    assert encode({"r": rows}) == encode({"r": entity_rows(0, keys, 4, 0.05)})
