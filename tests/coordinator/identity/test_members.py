"""Leaving, coming back and changing keys, over HTTP."""

import json

from ..support import Member, Server, members, signer


def test_a_member_cannot_act_for_another(server: Server) -> None:
    (member,) = members(2)
    server.join(member)
    other = Member("other", ["x"])
    server.join(other)
    assert server.signed(member, "DELETE", f"/clients/{other.id}").status_code == 403
    new = signer("taken over")
    body = json.dumps({"public_key": new.public_key, "proof": new.prove(other.id)}).encode()
    assert server.signed(member, "PUT", f"/clients/{other.id}/key", body).status_code == 403
    assert server.view(other).clients >= 2


def test_a_member_that_left_may_come_back(server: Server) -> None:
    (one,) = members(2)
    server.join(one)
    assert server.signed(one, "DELETE", f"/clients/{one.id}").status_code == 204
    reply = server.signed(one, "GET", "/round")
    assert (reply.status_code, "join again" in reply.text) == (403, True)
    server.join(one)
    assert server.view(one).clients == 1


def test_a_rotated_key_speaks_for_the_client_and_the_old_one_no_more(server: Server) -> None:
    one, two = members(2, 2)
    server.join(one, two)
    new = signer("new key")
    path = f"/clients/{one.id}/key"

    def rotation(proof: str, key: str = new.public_key) -> bytes:
        return json.dumps({"public_key": key, "proof": proof}).encode()

    wrong = server.signed(one, "PUT", path, rotation(new.prove(two.id)))
    assert (wrong.status_code, wrong.json()["errors"][0]["field"]) == (422, "proof")
    taken = server.signed(one, "PUT", path, rotation(two.signer.prove(one.id), two.signer.public_key))
    assert taken.status_code == 409
    assert server.signed(one, "PUT", path, rotation(new.prove(one.id))).json() == {"client": one.id}
    former = server.signed(one, "GET", "/round")
    assert (former.status_code, "replaced by another" in former.text) == (401, True)
    # The reply was lost: with the new key, doing so again changes nothing.
    assert server.signed(new, "PUT", path, rotation(new.prove(one.id))).status_code == 200
    assert server.signed(new, "GET", "/round").status_code == 200
    assert server.put_join(one).status_code == 403
    clients = {each["name"]: each for each in server.operator("GET", "/clients").json()["clients"]}
    assert (clients["m0"]["client"], clients["m0"]["key"]) == (one.id, new.key_id)
