"""Messages of members: joining, keys, what operators see of them, and the audit log."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from protocol.messages import Strict

OpaqueKey = Annotated[
    str, Field(pattern=r"^[0-9a-f]{64}$", description="HMAC-SHA256 of the entity's or relation's id, hex.")
]
PublicKey = Annotated[
    str, Field(pattern=r"^[A-Za-z0-9_-]{43}$", description="Ed25519 public key: its 32 bytes as base64url, unpadded.")
]
# No control characters, which terminals obey, and none that turn the direction of the text around them.
_SHOWN_AS_IT_IS = r"^[^\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]*$"
ClientId = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$", description="Thumbprint of the client's first key, hex.")]


class JoinRequest(Strict):
    """The body of `POST /clients`, signed by the key in it. An invitation token goes into the Authorization header."""

    name: str = Field(
        min_length=1,
        max_length=100,
        pattern=_SHOWN_AS_IT_IS,
        description="For people; need not be unique. Without control characters and marks of direction.",
    )
    public_key: PublicKey
    entities: list[OpaqueKey] = Field([], max_length=1_000_000, description="Distinct; their order is kept.")
    relations: list[OpaqueKey] = Field(
        [], max_length=1_000_000, description="Distinct; for trainings that share relations, else best left out."
    )
    triples: dict[Literal["train", "valid", "test"], Annotated[int, Field(ge=0, le=1 << 40)]] = Field(
        description="How many triples the client holds; the coordinator never sees the triples."
    )

    @field_validator("triples")
    @classmethod
    def _counts(cls, triples: dict[str, int]) -> dict[str, int]:
        if missing := {"train", "valid", "test"} - set(triples):
            raise ValueError(f"the count of {' and '.join(sorted(missing))} is missing")
        return triples

    @field_validator("entities", "relations")
    @classmethod
    def _distinct(cls, keys: list[str]) -> list[str]:
        if len(set(keys)) != len(keys):
            raise ValueError("a key occurs twice; everything has one row")
        return keys

    @model_validator(mode="after")
    def _holds_something(self) -> "JoinRequest":
        if not self.entities and not self.relations:
            raise ValueError("entities: a client holds entities, relations or both; it sent no key")
        return self


class JoinReply(Strict):
    """Who the client is from now on."""

    client: ClientId


class KeyRotation(Strict):
    """The body of `PUT /clients/{id}/key`, signed by the client's present key."""

    public_key: PublicKey
    proof: str = Field(
        pattern=r"^[A-Za-z0-9_-]{86}$",
        description="The new key's signature of `protocol.signatures.rotation_words`, base64url: the client holds it.",
    )


class ClientSummary(Strict):
    """A member, as operators see it."""

    client: ClientId
    name: str
    key: str = Field(description="Thumbprint of its present key.")
    joined: datetime
    seen: datetime = Field(description="When its latest signed request came.")
    removed: datetime | None
    removed_by: Literal["operator", "client"] | None
    entities: int
    relations: int
    shared_entities: int = Field(
        description="Of its entities, those that another member holds too; 0 also for who is no member any more. A "
        "member that shares nothing may have another shared key than the others, or other ids."
    )
    shared_relations: int = Field(description="Likewise, of the relations whose keys it told.")
    triples: dict[Literal["train", "valid", "test"], int]
    updates: int = Field(description="Accepted, over all trainings.")
    bytes: int = Field(description="Of these updates.")
    last_round: int | None = Field(description="Of its latest update.")


class Clients(Strict):
    """`GET /clients`: members in the order of joining, those that left or were removed too."""

    clients: list[ClientSummary]


class AuditEntry(Strict):
    """One line of the audit log: who did what when, with digests only."""

    number: int
    at: datetime
    who: str = Field(description="A client's id, `operator` or `coordinator`.")
    did: str = Field(description="As `update`, `join`, `revoke`, `pause`.")
    round: int | None
    subject: str | None = Field(description="Id of the training or client that it was done to.")
    digest: str | None = Field(description="SHA-256 of what was sent, hex.")


class Audit(Strict):
    """`GET /audit`: the audit log from the newest to the oldest."""

    entries: list[AuditEntry]
    next_before: int | None = Field(None, description="Pass as `before` for older entries; null at the end.")
