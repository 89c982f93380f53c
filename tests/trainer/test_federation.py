from pathlib import Path

import pytest

from protocol.federation import JoinReply, JoinRequest, RoundView
from protocol.keys import entity_keys
from trainer.coordinator import Coordinator
from trainer.federation import NotInvited, join, opaque_order, seed_of
from trainer.graph import Graph
from trainer.home import Home
from trainer.service import Service

from .support import Reply, loopback

KEY = b"a key that the clients share"
REPLY = JoinReply(client="c1", secret="s3cret").model_dump_json().encode()


VIEW = RoundView(event=1, training=None, phase="idle", round=None, selected=False, answered=False, clients=1)


def welcoming(path: str, body: bytes) -> Reply:
    return 200, REPLY if path == "/clients" else VIEW.model_dump_json().encode()


def forgetful(path: str, body: bytes) -> Reply:
    """A coordinator that lost its state: it takes joins, and knows no secret."""
    return (200, REPLY) if path == "/clients" else (401, b"{}")


def test_joining_tells_opaque_keys_and_counts_and_keeps_the_secret(tmp_path: Path, small: Graph) -> None:
    home = Home(tmp_path)
    with loopback(welcoming) as server, Service("coordinator", server.url, None, print) as service:
        assert join(Coordinator(service), home, small, "clinic", KEY, "invitation") == "c1"
        assert service.token == "s3cret"
        assert join(Coordinator(service), home, small, "clinic", KEY, None) == "c1"
    # The second time it only asks whether its secret still holds.
    ((method, path, headers, body), (_, again, _, _)) = server.seen
    assert again == "/round"
    assert (method, path, headers["Authorization"]) == ("POST", "/clients", "Bearer invitation")
    request = JoinRequest.model_validate_json(body)
    assert request.entities == entity_keys(KEY, small.entities)
    assert request.triples == {split: len(rows) for split, rows in small.triples.items()}
    assert request.join_key == home.credentials(server.url, small.digest).join_key
    assert not any(name.encode() in body for name in small.entities)


def test_a_first_join_without_invitation_names_the_option(tmp_path: Path, small: Graph) -> None:
    with (
        Service("coordinator", "http://127.0.0.1:1", None, print) as service,
        pytest.raises(NotInvited, match="--invitation-file"),
    ):
        join(Coordinator(service), Home(tmp_path), small, "clinic", KEY, None)


def test_seeds_depend_on_every_part_and_fit_a_generator() -> None:
    parts = [(0, "a", 1), (1, "a", 1), (0, "b", 1), (0, "a", 2), (0, "a", "1"), (0, "a"), (0, "a1")]
    seeds = [seed_of(*part) for part in parts]
    assert len(set(seeds)) == len(parts)
    assert all(0 <= seed < 1 << 62 for seed in seeds)
    assert seed_of(0, "a", 1) == seeds[0]


def test_rows_are_in_no_order_that_names_have(umls: Graph) -> None:
    ordered, other = opaque_order(umls, KEY), opaque_order(umls, b"another key of the clients")
    keys = entity_keys(KEY, ordered.entities)
    assert keys == sorted(keys)
    assert ordered.entities != sorted(ordered.entities) != other.entities != ordered.entities
    assert ordered.relations != sorted(ordered.relations)
    for split in umls.triples:
        assert ordered.named(split) == umls.named(split)


def test_a_client_joins_again_where_its_secret_or_its_counts_no_longer_hold(tmp_path: Path, small: Graph) -> None:
    home = Home(tmp_path)
    with loopback(forgetful) as server, Service("coordinator", server.url, None, print) as service:
        for _ in range(2):
            join(Coordinator(service), home, small, "clinic", KEY, "invitation")
        with pytest.raises(NotInvited, match="also again"):
            join(Coordinator(service), home, small, "clinic", KEY, None)
    joins = [JoinRequest.model_validate_json(body) for _, path, _, body in server.seen if path == "/clients"]
    assert joins[0] == joins[1]
    fewer = Graph(small.entities, small.relations, dict(small.triples) | {"test": small.triples["test"][:1]})
    with loopback(welcoming) as server, Service("coordinator", server.url, None, print) as service:
        for graph in (small, fewer, fewer):
            join(Coordinator(service), home, graph, "clinic", KEY, "invitation")
    assert [path for _, path, _, _ in server.seen].count("/clients") == 2
