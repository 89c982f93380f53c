"""Tables of the coordinator's database. Times are Unix seconds; tensors are blobs beside the database.

A row once written is only changed where a comment says so; nothing but surplus blobs and expired nonces is ever
deleted, but for what a migration finds of no use.
`migrations` holds how one version of these tables becomes the next.
"""

from functools import lru_cache

from sqlalchemy import BigInteger, Float, ForeignKey, Index, Integer, LargeBinary, String, Text, UniqueConstraint
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from protocol.trainings import TrainingSettings


class Base(DeclarativeBase):
    """Collects the tables."""


class Counter(Base):
    """One row: the event counter, which grows with every change that somebody can see, and whose state this is.

    `store` stands in the blobs too: a database and blobs that do not belong together are not worked with.
    """

    __tablename__ = "counter"
    id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    event: Mapped[int] = mapped_column(BigInteger, default=0)
    store: Mapped[str] = mapped_column(String)


class Training(Base):
    """A training: its settings never change, its standing does.

    `paused` is when it was paused and `pause_reason` why, both None while it runs.
    """

    __tablename__ = "trainings"
    ordinal: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    id: Mapped[str] = mapped_column(String, unique=True)
    settings: Mapped[str] = mapped_column(Text)
    started: Mapped[float] = mapped_column(Float)
    finished: Mapped[float | None] = mapped_column(Float, default=None)
    paused: Mapped[float | None] = mapped_column(Float, default=None)
    pause_reason: Mapped[str | None] = mapped_column(Text, default=None)
    rounds_done: Mapped[int] = mapped_column(BigInteger, default=0)
    best_version: Mapped[int | None] = mapped_column(BigInteger, default=None)
    best_mrr: Mapped[float | None] = mapped_column(Float, default=None)
    stale: Mapped[int] = mapped_column(BigInteger, default=0)

    def fixed(self) -> TrainingSettings:
        """The settings, parsed."""
        return _parsed(self.settings)


@lru_cache(maxsize=16)
def _parsed(settings: str) -> TrainingSettings:
    return TrainingSettings.model_validate_json(settings)


class Client(Base):
    """A member, until it leaves or is removed. Joining again changes its name, counts and, between trainings, its rows.

    `id` is the thumbprint of its first key. `removed_by` is `operator`, whose word is final, or `client`.
    """

    __tablename__ = "clients"
    id: Mapped[str] = mapped_column(String, primary_key=True)
    name: Mapped[str] = mapped_column(String)
    keys_digest: Mapped[str] = mapped_column(String)  # of its entity and relation keys, in order
    entities: Mapped[int] = mapped_column(BigInteger)
    relations: Mapped[int] = mapped_column(BigInteger)
    # Little-endian int64 global rows, in the client's order.
    entity_rows: Mapped[bytes] = mapped_column(LargeBinary, deferred=True)
    relation_rows: Mapped[bytes] = mapped_column(LargeBinary, deferred=True)
    train: Mapped[int] = mapped_column(BigInteger)
    valid: Mapped[int] = mapped_column(BigInteger)
    test: Mapped[int] = mapped_column(BigInteger)
    joined: Mapped[float] = mapped_column(Float)
    seen: Mapped[float] = mapped_column(Float)  # when its latest signed request came
    removed: Mapped[float | None] = mapped_column(Float, default=None)
    removed_by: Mapped[str | None] = mapped_column(String, default=None)


class Key(Base):
    """A public key that a client has or had; `ended` is set when it is rotated away. No key ever changes its client."""

    __tablename__ = "keys"
    id: Mapped[str] = mapped_column(String, primary_key=True)  # its thumbprint
    client: Mapped[str] = mapped_column(ForeignKey("clients.id"), index=True)
    public: Mapped[bytes] = mapped_column(LargeBinary(32))
    since: Mapped[float] = mapped_column(Float)
    ended: Mapped[float | None] = mapped_column(Float, default=None)


class Nonce(Base):
    """A nonce that a key has used; kept until a signature with it would be too old anyway."""

    __tablename__ = "nonces"
    key: Mapped[str] = mapped_column(String, primary_key=True)
    nonce: Mapped[str] = mapped_column(String, primary_key=True)
    expires: Mapped[float] = mapped_column(Float, index=True)


class GlobalRow(Base):
    """Which global row an entity or a relation has. Rows of a kind count from 0 without gaps; the table only grows."""

    __tablename__ = "global_rows"
    __table_args__ = (UniqueConstraint("kind", "key"),)
    kind: Mapped[str] = mapped_column(String, primary_key=True)  # "entities" or "relations"
    row: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    key: Mapped[bytes] = mapped_column(LargeBinary(32))


class Round(Base):
    """A round: its phase, deadline and attempt change until it is closed.

    `frozen_entities` and `frozen_relations` count the global rows when its updates were complete: from then on none is
    taken, so that aggregating, however often, sees the same ones.
    """

    __tablename__ = "rounds"
    number: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    training: Mapped[str] = mapped_column(ForeignKey("trainings.id"), index=True)
    phase: Mapped[str] = mapped_column(String)  # evaluating, selecting, training, aggregating
    opened: Mapped[float] = mapped_column(Float)
    closed: Mapped[float | None] = mapped_column(Float, default=None)
    deadline: Mapped[float] = mapped_column(Float)
    attempt: Mapped[int] = mapped_column(BigInteger, default=1)
    goal: Mapped[int] = mapped_column(BigInteger, default=0)  # answers that close the training before its deadline
    frozen_entities: Mapped[int | None] = mapped_column(BigInteger, default=None)
    frozen_relations: Mapped[int | None] = mapped_column(BigInteger, default=None)


class Selection(Base):
    """A client that is to act in a phase of a round."""

    __tablename__ = "selections"
    round: Mapped[int] = mapped_column(ForeignKey("rounds.number"), primary_key=True)
    phase: Mapped[str] = mapped_column(String, primary_key=True)
    client: Mapped[str] = mapped_column(ForeignKey("clients.id"), primary_key=True)


class Update(Base):
    """An accepted update; its tensors are the blob `blobs.update_name(round, client, digest)`."""

    __tablename__ = "updates"
    __table_args__ = (Index("updates_by_client", "client", "round"),)
    round: Mapped[int] = mapped_column(ForeignKey("rounds.number"), primary_key=True)
    client: Mapped[str] = mapped_column(ForeignKey("clients.id"), primary_key=True)
    digest: Mapped[str] = mapped_column(String)
    triples: Mapped[int] = mapped_column(BigInteger)
    loss: Mapped[float] = mapped_column(Float)
    size: Mapped[int] = mapped_column(BigInteger)
    received: Mapped[float] = mapped_column(Float)


class EvaluationRow(Base):
    """A client's metrics of a version, as canonical JSON of `protocol.rounds.Evaluation`."""

    __tablename__ = "evaluations"
    round: Mapped[int] = mapped_column(ForeignKey("rounds.number"), primary_key=True)
    client: Mapped[str] = mapped_column(ForeignKey("clients.id"), primary_key=True)
    mode: Mapped[str] = mapped_column(String, primary_key=True)
    split: Mapped[str] = mapped_column(String, primary_key=True)
    content: Mapped[str] = mapped_column(Text)


class AuditRow(Base):
    """Who did what when, written in the transaction that did it. Digests only: no content, no secret."""

    __tablename__ = "audit"
    number: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    at: Mapped[float] = mapped_column(Float)
    who: Mapped[str] = mapped_column(String)  # a client's id, "operator" or "coordinator"
    did: Mapped[str] = mapped_column(String)
    round: Mapped[int | None] = mapped_column(BigInteger, default=None)
    subject: Mapped[str | None] = mapped_column(String, default=None)  # a training's or a client's id
    digest: Mapped[str | None] = mapped_column(String, default=None)
