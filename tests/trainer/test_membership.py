from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from protocol.keys import entity_keys, relation_keys
from protocol.members import JoinReply, JoinRequest, KeyRotation
from protocol.problems import Conflict, Forbidden, ProblemError, Unauthorized
from protocol.rounds import RoundView
from protocol.signatures import Signer, proves, read_signature
from trainer.clients.coordinator import Coordinator
from trainer.clients.service import Service
from trainer.graph import Graph
from trainer.home import Home
from trainer.keys import begin_rotation, present_key
from trainer.membership import NotInvited, NotMember, NotRotated, join, leave, opaque_order, rotate, sign

from .stand_in import INVITATION, StandIn, coordinator
from .support import DROP, Loopback, Reply, loopback

KEY = b"a key that the clients share"


@contextmanager
def signed(url: str, home: Home) -> Iterator[Coordinator]:
    with Service("coordinator", url, None, lambda text: None) as service:
        calls = Coordinator(service)
        sign(calls, home)
        yield calls


def joined(stand_in: StandIn, home: Home, graph: Graph, invitation: str | None = INVITATION, **more: object) -> str:
    with signed(stand_in.server.url, home) as calls:
        return join(calls, home, graph, "clinic", KEY, invitation, **more)  # type: ignore[arg-type]


def refusal(problem: ProblemError) -> Reply:
    return problem.status, problem.document().model_dump_json(exclude_defaults=True).encode()


def test_joining_tells_opaque_keys_and_counts_once(tmp_path: Path, small: Graph) -> None:
    home = Home(tmp_path)
    with coordinator() as stand_in:
        who = joined(stand_in, home, small)
        assert joined(stand_in, home, small, invitation=None) == who
    assert who == present_key(tmp_path, print).key_id
    assert stand_in.joins == 1
    (request,) = stand_in.members.values()
    assert request.entities == entity_keys(KEY, small.entities)
    assert request.relations == []
    assert request.triples == {split: len(rows) for split, rows in small.triples.items()}
    assert not any(name.encode() in body for *_, body in stand_in.server.seen for name in small.entities)


@pytest.mark.parametrize("share", ["relations", "both"])
def test_relations_are_told_where_the_client_agrees(tmp_path: Path, small: Graph, share: str) -> None:
    with coordinator() as stand_in:
        joined(stand_in, Home(tmp_path), small, share=share)
    (request,) = stand_in.members.values()
    assert request.relations == relation_keys(KEY, small.relations)
    assert bool(request.entities) == (share == "both")


def test_who_is_not_let_in_learns_both_ways(tmp_path: Path, small: Graph) -> None:
    with coordinator() as stand_in, pytest.raises(NotInvited, match="--invitation-file") as error:
        joined(stand_in, Home(tmp_path), small, invitation="another")
    assert str(error.value).endswith(f"{present_key(tmp_path, print).public_key} clinic")


def test_a_client_joins_again_where_it_has_something_else_to_tell(tmp_path: Path, small: Graph) -> None:
    home = Home(tmp_path)
    fewer = Graph(small.entities, small.relations, dict(small.triples) | {"test": small.triples["test"][:1]})
    other = Graph(small.entities[::-1], small.relations, small.triples)
    with coordinator() as stand_in:
        clients = {joined(stand_in, home, graph) for graph in (small, fewer, fewer, other, small, small)}
        assert stand_in.joins == 4
        joined(stand_in, home, small, share="both")
    assert len(clients) == 1
    assert stand_in.joins == 5


def test_a_client_joins_again_where_it_is_not_known(tmp_path: Path, small: Graph) -> None:
    home = Home(tmp_path)
    with coordinator() as stand_in:
        joined(stand_in, home, small)
        stand_in.members.clear()
        joined(stand_in, home, small)
        assert stand_in.joins == 2


@pytest.mark.parametrize("problem", [Conflict("training t1 runs"), Forbidden("client c was removed by an operator")])
def test_a_refusal_that_no_invitation_mends_stays_as_it_is(tmp_path: Path, small: Graph, problem: ProblemError) -> None:
    with coordinator() as stand_in:
        stand_in.before = lambda asked: refusal(problem) if asked == "POST /clients" else None
        with pytest.raises(type(problem), match=problem.detail):
            joined(stand_in, Home(tmp_path), small)


def test_leaving_forgets_and_joining_brings_back(tmp_path: Path, small: Graph) -> None:
    home = Home(tmp_path)
    left: list[str] = []

    def gone(asked: str) -> Reply | None:
        if not asked.startswith("DELETE "):
            return None
        left.append(asked)
        # The first reply is lost; the second attempt finds that it has left.
        return DROP if len(left) == 1 else refusal(Forbidden("has left"))

    with coordinator(before=gone) as stand_in:
        who = joined(stand_in, home, small)
        with signed(stand_in.server.url, home) as calls:
            assert leave(calls, home) == who
            with pytest.raises(NotMember, match="nothing to leave"):
                leave(calls, home)
        assert left == [f"DELETE /clients/{who}"] * 2
        assert joined(stand_in, home, small) == who
        assert stand_in.joins == 2


class Rotating:
    """A coordinator that knows one member's key, and takes another in its place."""

    def __init__(self, home: Home) -> None:
        self.home = home
        self.client = self.key = present_key(home.path, print).key_id
        self.server: Loopback
        self.asked: list[str] = []
        self.lose_reply = False

    def respond(self, path: str, body: bytes) -> Reply:
        method, _, headers, _ = self.server.seen[-1]
        if read_signature({name.lower(): value for name, value in headers.items()}).key_id != self.key:
            return refusal(Unauthorized("this key was replaced by another one"))
        if method == "GET":
            view = RoundView(
                event=1, training=None, phase="idle", round=None, selected=False, answered=False, clients=1
            )
            return 200, view.model_dump_json().encode()
        if method == "POST":
            JoinRequest.model_validate_json(body)
        else:
            self.asked.append(path)
            rotation = KeyRotation.model_validate_json(body)
            assert proves(rotation.proof, self.client, rotation.public_key)
            self.key = Signer.from_pem((self.home.path / "key-next.pem").read_bytes()).key_id
            if self.lose_reply:
                return refusal(Conflict("killed here"))
        return 200, JoinReply(client=self.client).model_dump_json().encode()


@pytest.fixture
def two(tmp_path: Path, small: Graph) -> Iterator[tuple[Home, list[Rotating]]]:
    """A home that is a member at two coordinators."""
    home = Home(tmp_path)
    made = [Rotating(home) for _ in range(2)]
    with loopback(made[0].respond) as made[0].server, loopback(made[1].respond) as made[1].server:
        for each in made:
            with signed(each.server.url, home) as calls:
                join(calls, home, small, "clinic", KEY, None)
        yield home, made


def turn(home: Home, made: list[Rotating]) -> Signer:
    with signed(made[0].server.url, home) as one, signed(made[1].server.url, home) as other:
        return rotate({calls.service.url: calls for calls in (one, other)}, home, print)


def test_a_new_key_is_the_same_client_everywhere(two: tuple[Home, list[Rotating]], small: Graph) -> None:
    home, made = two
    former = present_key(home.path, print)
    key = turn(home, made)
    assert [each.key for each in made] == [key.key_id] * 2 != [former.key_id] * 2
    assert present_key(home.path, print).key_id == key.key_id
    assert not (home.path / "key-next.pem").exists()
    assert [each.asked for each in made] == [[f"/clients/{former.key_id}/key"]] * 2
    with signed(made[0].server.url, home) as calls:
        assert join(calls, home, small, "clinic", KEY, None) == former.key_id
    assert [m for m, *_ in made[0].server.seen].count("POST") == 1


def test_a_rotation_that_failed_at_one_coordinator_goes_on_and_is_finished_with_the_same_key(
    two: tuple[Home, list[Rotating]], small: Graph
) -> None:
    home, made = two
    former = present_key(home.path, print)
    # The first coordinator that is asked takes the key, and says otherwise.
    first = min(made, key=lambda each: [m.coordinator for m in home.memberships()].index(each.server.url))
    first.lose_reply = True
    with pytest.raises(NotRotated, match=first.server.url):
        turn(home, made)
    following = begin_rotation(home.path, print)
    assert present_key(home.path, print).key_id == former.key_id
    for each in made:  # each is used with the key that it knows
        with signed(each.server.url, home) as calls:
            assert join(calls, home, small, "clinic", KEY, None) == former.key_id
            assert calls.service.signer is not None
            assert calls.service.signer.key_id == following.key_id
    assert turn(home, made).key_id == following.key_id
    assert [each.key for each in made] == [following.key_id] * 2
    assert [len(each.asked) for each in made] == [1, 1]


def test_the_next_use_ends_a_rotation_that_the_only_coordinator_has_taken(tmp_path: Path, small: Graph) -> None:
    home = Home(tmp_path)
    made = Rotating(home)
    with loopback(made.respond) as made.server:
        with signed(made.server.url, home) as calls:
            join(calls, home, small, "clinic", KEY, None)
        following = begin_rotation(tmp_path, print)
        made.key = following.key_id
        with signed(made.server.url, home):
            pass
    assert present_key(tmp_path, print).key_id == following.key_id
    assert not (tmp_path / "key-next.pem").exists()


def test_a_key_that_nobody_knows_is_not_rotated(tmp_path: Path) -> None:
    with pytest.raises(NotMember, match="has joined no coordinator"):
        rotate({}, Home(tmp_path), print)
    assert list(tmp_path.iterdir()) == []


def test_rows_are_in_no_order_that_names_have(umls: Graph) -> None:
    ordered, other = opaque_order(umls, KEY), opaque_order(umls, b"another key of the clients")
    keys = entity_keys(KEY, ordered.entities)
    assert keys == sorted(keys)
    assert ordered.entities != sorted(ordered.entities) != other.entities != ordered.entities
    assert ordered.relations != sorted(ordered.relations)
    for split in umls.triples:
        assert ordered.named(split) == umls.named(split)


def test_addresses_are_where_they_were_kept(tmp_path: Path, small: Graph) -> None:
    home = Home(tmp_path)
    with coordinator() as stand_in:
        joined(stand_in, home, small)
        (member,) = home.memberships()
        assert urlsplit(member.coordinator).port == urlsplit(stand_in.server.url).port
        with signed(stand_in.server.url + "/", home) as calls:  # the same address, written otherwise
            join(calls, home, small, "clinic", KEY, None)
        assert stand_in.joins == 1
