import numpy as np
import pytest
from safetensors.numpy import load

from protocol.problems import NotFound
from protocol.tensors import decode, encode
from protocol.trainings import model_tensors
from services.coordinator.identity.joining import join, leave
from services.coordinator.rounds.advance import freeze
from services.coordinator.rounds.initial import initial_rows
from services.coordinator.rounds.shares import client_share, whole_model
from services.coordinator.rounds.versions import write_next
from services.coordinator.store import queries
from services.coordinator.store.schema import Round

from ..support import Local, Member, key, members, settings


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
    _, message = decode(b"".join(client_share(local.store, one.id, 1).pieces()), model_tensors(settings(), 2))
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
    assert encode({"r": rows}) == encode({"r": initial_rows(settings(), "entities", keys)})


def test_a_share_s_length_and_etag_are_those_of_its_bytes(local: Local) -> None:
    one, two = members(2000, 3)
    local.start(clients=2, dim=300, dense={"w": {"shape": [5], "init": 0.1}})
    local.join(one, two)
    shares = [client_share(local.store, member.id, 1) for member in (one, two, one)]
    bodies = [b"".join(share.pieces()) for share in shares]
    assert [len(body) for body in bodies] == [share.length for share in shares]
    assert bodies[0] == bodies[2]
    assert shares[0].etag == shares[2].etag != shares[1].etag
    local.send(one, 1.0)
    local.send(two, 1.0)
    later = client_share(local.store, one.id, 2)
    later.close()
    assert later.etag != shares[0].etag


def test_a_share_outlives_the_deletion_of_its_version(local: Local) -> None:
    (one,) = members(3)
    local.start()
    local.join(one)
    share, twin = client_share(local.store, one.id, 1), client_share(local.store, one.id, 1)
    whole = b"".join(twin.pieces())
    local.send(one)
    with pytest.raises(NotFound):
        client_share(local.store, one.id, 1)
    assert b"".join(share.pieces()) == whole


@pytest.mark.parametrize(("dtype", "unit"), [("bfloat16", 2**-8), ("float16", 2**-11)])
def test_half_as_many_bytes_on_the_wire(local: Local, dtype: str, unit: float) -> None:
    (one,) = members(50)
    local.start(wire_dtype=dtype, dim=64)
    local.join(one)
    rows = local.share(one)["entities"]
    exact = initial_rows(settings(dim=64), "entities", [bytes.fromhex(key(name)) for name in one.entities])
    assert client_share(local.store, one.id, 1).length < exact.nbytes / 2 + 400
    assert rows.dtype == np.float32
    assert (np.abs(rows - exact) <= np.abs(exact) * unit + 2**-24).all()
    local.send(one, 0.25)
    assert np.allclose(local.share(one)["entities"], exact + 0.25, atol=0.25 * 2 * unit)


def test_relations_are_shared_where_a_training_says_so(local: Local) -> None:
    one = Member("one", ["x"], relations=["r", "s"])
    two = Member("two", ["y"], relations=["s"])
    none = Member("none", ["z"])
    local.join(one, two, none)
    local.start(clients=2, share="relations", relation_dim=3)
    assert [local.view(member).selected for member in (one, two, none)] == [True, True, False]
    before = local.share(one)
    assert {name: tensor.shape for name, tensor in before.items()} == {"relations": (2, 3)}
    assert np.array_equal(before["relations"][1:], local.share(two)["relations"])
    local.send(one, 1.0)
    local.send(two, 3.0)
    after = local.share(one)["relations"]
    assert np.allclose(after - before["relations"], [[1.0] * 3, [2.0] * 3], atol=1e-6)


def test_the_whole_model_has_every_row_with_its_key(local: Local) -> None:
    one, two = Member("one", ["x", "y"]), Member("two", ["y", "z"])
    local.join(one, two)
    training = local.start(clients=2, rounds=1, dense={"w": {"shape": [2], "init": 0.1}})
    with pytest.raises(NotFound, match="no evaluated version"):
        whole_model(local.store, None)
    local.send(one)
    local.send(two)
    local.report(one, 0.5)
    local.report(two, 0.5)
    model = load(b"".join(whole_model(local.store, training).pieces()))
    assert [bytes(row).hex() for row in model["entity_keys"]] == [key(name) for name in "xyz"]
    assert np.array_equal(model["entities"][:2], local.share(one, 2)["entities"])
    assert set(model) == {"entities", "entity_keys", "dense.w"}
    with pytest.raises(NotFound):
        whole_model(local.store, "none")


def test_a_server_s_optimiser_is_kept_and_not_sent(local: Local) -> None:
    one, late = members(2, 4)
    local.start(rounds=9, evaluate_every=9, aggregation={"strategy": "momentum", "beta1": 0.5})
    local.join(one)
    start = local.share(one)["entities"]
    local.send(one, 1.0)
    assert np.allclose(local.share(one)["entities"], start + 1.0, atol=1e-5)
    local.join(late)
    local.send(one, 1.0)
    # m = 0.5 * 1 + 1.
    assert np.allclose(local.share(one)["entities"], start + 2.5, atol=1e-5)
    assert set(local.share(one)) == {"entities"}
    local.send(one, 0.0)
    local.send(late, 0.0)
    assert np.allclose(local.share(one)["entities"], start + 2.5 + 0.75, atol=1e-5)


def test_aggregating_again_counts_the_same_members(local: Local) -> None:
    reporting, silent, late = Member("one", ["x", "y"]), Member("two", ["y"]), Member("three", ["x", "y"])
    local.join(reporting, silent)
    local.start(clients=2, quorum=2, aggregation={"strategy": "mean_over_all"})
    start = local.share(reporting)["entities"]
    local.put(reporting, 1, reporting.trained(local.share(reporting), 1.0))
    first = next_version(local)
    local.clock.now += 1
    join(local.store, late.request())
    leave(local.store, silent.id)
    assert next_version(local) == first
    join(local.store, silent.request())
    assert next_version(local) == first
    assert np.allclose(load(first)["entities"] - start, [[1.0], [0.5]], atol=1e-6)


def next_version(local: Local) -> bytes:
    """What the updates of round 1 make, which is frozen the first time."""
    file = local.store.blobs.temporary()
    with local.store.database.write() as session:
        training, frozen = queries.latest_training(session), session.get_one(Round, 1)
        assert training is not None
        if frozen.frozen_entities is None:
            freeze(session, training, frozen, local.clock())
    with local.store.database.read() as session:
        write_next(local.store, session, training, session.get_one(Round, 1), file)
    return file.read_bytes()


def test_who_holds_much_that_is_new_gets_it_in_order(local: Local) -> None:
    """New rows stand between known ones in every piece of the share."""
    (one,) = members(900)
    late = Member("late", [name for i in range(900) for name in (f"e{899 - i}", f"late{(7 * i) % 900}")])
    local.start(dim=400)
    local.join(one)
    local.join(late)
    rows = local.share(late)["entities"]
    keys = [bytes.fromhex(key(name)) for name in late.entities]
    assert rows.tobytes() == initial_rows(settings(dim=400), "entities", keys).tobytes()


def test_float16_carries_as_much_as_it_can_of_what_an_optimizer_drove_beyond(local: Local) -> None:
    (one,) = members(1)
    local.start(wire_dtype="float16", rounds=9, aggregation={"strategy": "momentum", "learning_rate": 1000.0})
    local.join(one)
    local.send(one, 100.0)
    assert (local.share(one)["entities"] == 65504).all()
