from pathlib import Path

import pytest

from protocol.federation import JoinReply, JoinRequest
from protocol.keys import entity_keys
from trainer.coordinator import Coordinator
from trainer.federation import NotInvited, join, seed_of
from trainer.graph import Graph
from trainer.home import Home
from trainer.service import Service

from .support import Reply, loopback

KEY = b"a key that the clients share"
REPLY = JoinReply(client="c1", secret="s3cret").model_dump_json().encode()


def welcoming(path: str, body: bytes) -> Reply:
    return 200, REPLY


def test_joining_tells_opaque_keys_and_counts_and_keeps_the_secret(tmp_path: Path, small: Graph) -> None:
    home = Home(tmp_path)
    with loopback(welcoming) as server, Service("coordinator", server.url, None, print) as service:
        assert join(Coordinator(service), home, small, "clinic", KEY, "invitation") == "c1"
        assert service.token == "s3cret"
        assert join(Coordinator(service), home, small, "clinic", KEY, None) == "c1"
    ((method, path, headers, body),) = server.seen
    assert (method, path, headers["Authorization"]) == ("POST", "/clients", "Bearer invitation")
    request = JoinRequest.model_validate_json(body)
    assert request.entities == entity_keys(KEY, small.entities)
    assert request.triples == {split: len(rows) for split, rows in small.triples.items()}
    assert request.join_key == home.credentials(server.url).join_key
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
