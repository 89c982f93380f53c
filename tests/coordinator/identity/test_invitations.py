"""Who may join: over HTTP, with the invitation token or a key on the list."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from protocol.problems import Forbidden
from services.coordinator.identity.invitations import Invitations

from ..support import INVITATION, OPERATOR, Member, Server, bearer, members, signer


def test_the_key_in_a_join_s_body_must_have_signed_it(shared_server: Server) -> None:
    body = Member("victim", ["x"]).request().model_dump_json().encode()
    reply = shared_server.signed(signer("attacker"), "POST", "/clients", body, headers=bearer(INVITATION))
    assert (reply.status_code, "another key" in reply.text) == (401, True)


@pytest.mark.parametrize("token", [None, OPERATOR, "some other token"])
def test_joining_needs_the_invitation(shared_server: Server, token: str | None) -> None:
    reply = shared_server.put_join(Member("stranger", ["x"]), token)
    assert (reply.status_code, reply.json()["key"]) == (403, signer("stranger").key_id)


@pytest.fixture(scope="module")
def listed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Path]]:
    """A coordinator that lets in only who is on its list."""
    folder = tmp_path_factory.mktemp("listed")
    file = folder / "keys"
    file.write_text("")
    environment = {"COORDINATOR_INVITATION_TOKEN": "", "COORDINATOR_ALLOWED_KEYS_FILE": str(file)}
    server = Server(folder / "data", **environment)
    yield server, file
    server.close()


def test_an_allowed_key_joins_without_an_invitation(listed: tuple[Server, Path]) -> None:
    server, file = listed
    one, two = members(1, 1)
    file.write_text(f"# who may join\n\n{one.signer.public_key} north hospital  # since May\n")
    assert server.put_join(one, None).status_code == 201
    refused = server.put_join(two, None)
    assert (refused.status_code, "list" in refused.json()["detail"]) == (403, True)
    assert server.put_join(two, INVITATION).status_code == 403
    file.write_text(f"{one.signer.public_key}\n{two.signer.public_key}\n")
    assert server.put_join(two, None).status_code == 201


def test_a_key_that_is_not_listed_does_not_join_under_the_id_of_one_that_is(listed: tuple[Server, Path]) -> None:
    server, file = listed
    one, stranger = Member("listed", ["x"]), Member("unlisted", ["x"])
    file.write_text(f"{one.signer.public_key}\n")
    stranger.signer.key_id = one.id  # what it signs says so too
    before = len(server.operator("GET", "/clients").json()["clients"])
    assert server.put_join(stranger, None).status_code == 401
    assert len(server.operator("GET", "/clients").json()["clients"]) == before


@pytest.mark.parametrize(
    "broken", ["no key at all", "{key},", '"{key}"', "{key}=", "{key}A", "\N{SNOWMAN}", "north {key}", "\ufeff{key}"]
)
def test_a_list_with_a_broken_line_lets_nobody_in(listed: tuple[Server, Path], broken: str) -> None:
    server, file = listed
    third, fourth = Member("third", ["x"]), Member("fourth", ["x"])
    file.write_text(f"{broken.format(key=fourth.signer.public_key)}\n{third.signer.public_key}\n", encoding="utf-8")
    for member in (third, fourth):
        reply = server.put_join(member, None)
        assert (reply.status_code, str(file) in reply.text) == (503, False)


def test_a_list_that_cannot_be_read_lets_nobody_in(listed: tuple[Server, Path]) -> None:
    server, file = listed
    fifth = Member("fifth", ["x"])
    file.write_bytes(f"{fifth.signer.public_key}\n".encode() + b"\xff\xfe\n")
    assert server.put_join(fifth, None).status_code == 503
    file.unlink()
    assert server.put_join(fifth, None).status_code == 503
    file.write_text(f"{fifth.signer.public_key}\n")
    assert server.put_join(fifth, None).status_code == 201


def test_either_way_in_is_enough_where_both_are_open(tmp_path: Path) -> None:
    one, two, three = members(1, 1, 1)
    file = tmp_path / "keys"
    file.write_text(f"{one.signer.public_key}\n")
    ways = Invitations(INVITATION, file)
    ways.check(None, one.id)
    ways.check("another token", one.id)
    ways.check(INVITATION, two.id)
    with pytest.raises(Forbidden, match="as `Authorization: Bearer <token>`, and no operator has listed this key"):
        ways.check(None, three.id)
    with pytest.raises(Forbidden, match="is not this coordinator's invitation, and no operator has listed"):
        ways.check("another token", three.id)
    file.unlink()
    ways.check(INVITATION, two.id)
