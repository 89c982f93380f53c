"""Joining a federation, leaving it, and changing the key: what a client is to a coordinator."""

import hashlib
from collections.abc import Mapping

from protocol.keys import entity_keys, relation_keys
from protocol.members import JoinRequest, KeyRotation
from protocol.problems import Forbidden, NotFound, ProblemError, Unauthorized
from protocol.signatures import Signer
from protocol.trainings import Share
from trainer.clients.coordinator import Coordinator
from trainer.clients.retries import ServiceUnreachable
from trainer.graph import SPLITS, Graph
from trainer.home import Home, Membership
from trainer.keys import begin_rotation, end_rotation, next_key, present_key
from trainer.reports import Report


class NotInvited(Exception):
    """The coordinator does not let this key in; the message says what would open the door."""


class NotMember(Exception):
    """The home is no member at a coordinator."""


class NotRotated(Exception):
    """Some coordinators still have the former key; the message names them, and the way out."""


def opaque_order(graph: Graph, shared_key: bytes) -> Graph:
    """The graph with entities and relations in the order of their keys under the clients' shared key.

    Rows go over the wire in the graph's order. In an alphabetical one, whoever knows the vocabulary could name them.
    """

    def ordered(names: list[str]) -> list[str]:
        return [name for _, name in sorted(zip(entity_keys(shared_key, names), names, strict=True))]

    return graph.in_order(ordered(graph.entities), ordered(graph.relations))


def told(graph: Graph, name: str, shared_key: bytes, share: Share) -> Mapping[str, object]:
    """What a client tells when it joins, but for its key: the keys of what it shares, and how much it holds."""
    return {
        "name": name,
        "entities": entity_keys(shared_key, graph.entities if share != "relations" else []),
        "relations": relation_keys(shared_key, graph.relations if share != "entities" else []),
        "triples": {split: len(graph.triples[split]) for split in SPLITS},
    }


def sign(coordinator: Coordinator, home: Home) -> None:
    """Let the home's key sign the coordinator's calls: the present one, or the next where a rotation got so far.

    Raises:
        KeyUnusable: A key file holds none.
    """
    report = coordinator.service.report
    coordinator.service.signer = present_key(home.path, report)
    following = next_key(home.path, report)
    if following is None or _has_key(coordinator):
        return
    coordinator.service.signer, present = following, coordinator.service.signer
    if not _has_key(coordinator):
        coordinator.service.signer = present
    elif all(member.coordinator == coordinator.service.url for member in home.memberships()):
        end_rotation(home.path)


def join(
    coordinator: Coordinator,
    home: Home,
    graph: Graph,
    name: str,
    shared_key: bytes,
    invitation: str | None,
    share: Share = "entities",
) -> str:
    """Become a client, or go on as the one that the home is already; returns the client's id. Calls must be signed.

    Joins where the home never did, where what it tells has changed, and where the coordinator knows it no more.

    Raises:
        NotInvited: The coordinator lets the key in neither with this invitation nor without one.
        Conflict: The entities or relations have changed while a training runs with the former ones.
        Forbidden: An operator has removed this client.
    """
    tells = told(graph, name, shared_key, share)
    signer = coordinator.service.signer
    assert signer is not None
    request = JoinRequest.model_validate({**tells, "public_key": signer.public_key})
    sent = hashlib.sha256(request.model_dump_json(exclude={"public_key"}).encode()).hexdigest()
    known = home.membership(coordinator.service.url)
    if known is not None and known.sent == sent and _is_known(coordinator):
        return known.client
    try:
        reply = coordinator.join(request, invitation)
    except Forbidden as refusal:
        if "key" not in refusal.extra:  # not the door: this client was removed
            raise
        raise NotInvited(
            f"{refusal.detail}. Give --invitation-file with the coordinator's invitation, which is not its operators' "
            f"token, or ask an operator to put this line on the list of keys that may join: {signer.public_key} {name}"
        ) from refusal
    home.keep(Membership(coordinator=coordinator.service.url, client=reply.client, sent=sent))
    return reply.client


def _has_key(coordinator: Coordinator) -> bool:
    """Whether the coordinator has the key that signs, also as that of a client that has left."""
    try:
        coordinator.view()
    except Unauthorized:
        return False
    except Forbidden:
        return True
    return True


def _is_known(coordinator: Coordinator) -> bool:
    """Whether the coordinator takes the key for a member's; it does not if its state was lost, or the client left.

    Raises:
        Forbidden: An operator has removed the client; joining again would not help.
    """
    try:
        coordinator.view()
    except Unauthorized:
        return False
    except Forbidden as refusal:
        if "removed by an operator" in refusal.detail:
            raise
        return False
    return True


def require_member(home: Home, coordinator: str) -> Membership:
    """What the home keeps of its membership at an address.

    Raises:
        NotMember: The home has not joined there.
    """
    known = home.membership(coordinator)
    if known is None:
        raise NotMember(f"{home.path} is no member at {coordinator}; there is nothing to leave")
    return known


def leave(coordinator: Coordinator, home: Home) -> str:
    """Leave a federation, signed with the home's key; returns the id of the client that was.

    Raises:
        NotMember: The home has not joined there.
    """
    known = require_member(home, coordinator.service.url)
    try:
        sign(coordinator, home)
        coordinator.leave(known.client)
    except (Unauthorized, Forbidden, NotFound) as refusal:
        # It had left already, was removed, or is not known there any more.
        coordinator.service.report(refusal.detail)
    except ServiceUnreachable as error:
        coordinator.service.report(
            f"{error}. It is forgotten here; where it comes back, it does not know that you left"
        )
    home.forget(coordinator.service.url)
    return known.client


def rotate(coordinators: Mapping[str, Coordinator], home: Home, report: Report) -> Signer:
    """Replace the home's key by a new one at every coordinator that it is a member of; returns the new key.

    Killed anywhere, it is finished by doing it again: until all have taken the new key, both are kept.

    Args:
        coordinators: Calls, by address; one for each of the home's memberships.
        home: Whose key it is.
        report: Told of each coordinator that has taken the new key.

    Raises:
        NotMember: The home has joined nowhere; a key that nobody knows need not be replaced.
        NotRotated: Some coordinators have not taken it; the others have.
    """
    members = home.memberships()
    if not members:
        raise NotMember(f"{home.path} has joined no coordinator; delete key.pem for a new key")
    present, following = present_key(home.path, report), begin_rotation(home.path, report)
    failed = []
    for member in members:
        try:
            _rotate_at(coordinators[member.coordinator], member.client, present, following)
        except (ProblemError, ServiceUnreachable) as error:
            failed.append(f"{member.coordinator}: {error}")
        else:
            report(f"{member.coordinator} has taken the new key")
    if failed:
        raise NotRotated(
            f"these still have the former key, the others the new one: {'; '.join(failed)}. Do it again once they "
            f"answer; `tripleherd leave` forgets one that is gone for good"
        )
    end_rotation(home.path)
    return following


def _rotate_at(coordinator: Coordinator, client: str, present: Signer, following: Signer) -> None:
    """Replace the key at one coordinator, if it has not been."""
    coordinator.service.signer = following
    if _has_key(coordinator):
        return
    coordinator.service.signer = present
    proof = following.prove(client)
    try:
        coordinator.rotate(client, KeyRotation(public_key=following.public_key, proof=proof))
    except Unauthorized:
        # The reply may have been lost: the former key is no longer the one that asks again.
        coordinator.service.signer = following
        if not _has_key(coordinator):
            raise
