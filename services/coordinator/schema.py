"""Tables of the coordinator's database. Times are Unix seconds; tensors are blobs beside the database.

A row once written is only changed where a comment says so; nothing but surplus blobs is ever deleted.
"""

from sqlalchemy import Float, ForeignKey, Integer, LargeBinary, String, Text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from protocol.federation import TrainingSettings


class Base(DeclarativeBase):
    """Collects the tables."""


class Counter(Base):
    """The one event counter, which grows with every change that somebody can see."""

    __tablename__ = "counter"
    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    event: Mapped[int] = mapped_column(Integer, default=0)


class Training(Base):
    """A training: its settings never change, its standing does."""

    __tablename__ = "trainings"
    __table_args__ = {"sqlite_autoincrement": True}  # noqa: RUF012
    ordinal: Mapped[int] = mapped_column(Integer, primary_key=True)
    id: Mapped[str] = mapped_column(String, unique=True)
    settings: Mapped[str] = mapped_column(Text)
    started: Mapped[float] = mapped_column(Float)
    finished: Mapped[float | None] = mapped_column(Float, default=None)
    rounds_done: Mapped[int] = mapped_column(Integer, default=0)
    best_version: Mapped[int | None] = mapped_column(Integer, default=None)
    best_mrr: Mapped[float | None] = mapped_column(Float, default=None)
    stale: Mapped[int] = mapped_column(Integer, default=0)

    def fixed(self) -> TrainingSettings:
        """The settings, parsed."""
        return TrainingSettings.model_validate_json(self.settings)


class Client(Base):
    """A member, until it is removed. Joining again changes its name, secret and counts; its entities stay."""

    __tablename__ = "clients"
    id: Mapped[str] = mapped_column(String, primary_key=True)
    name: Mapped[str] = mapped_column(String)
    join_digest: Mapped[str] = mapped_column(String, unique=True)
    secret_digest: Mapped[str] = mapped_column(String, unique=True)
    entities_digest: Mapped[str] = mapped_column(String)
    entities: Mapped[int] = mapped_column(Integer)
    rows: Mapped[bytes] = mapped_column(LargeBinary, deferred=True)  # little-endian int64 global rows, client's order
    train: Mapped[int] = mapped_column(Integer)
    valid: Mapped[int] = mapped_column(Integer)
    test: Mapped[int] = mapped_column(Integer)
    joined: Mapped[float] = mapped_column(Float)
    removed: Mapped[float | None] = mapped_column(Float, default=None)


class Entity(Base):
    """Which global row an entity has. Rows are numbered from 0 without gaps; the table only grows."""

    __tablename__ = "entities"
    row: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    key: Mapped[bytes] = mapped_column(LargeBinary(32), unique=True)


class Round(Base):
    """A round. `frozen_entities` is set when its updates are complete: from then on none is taken."""

    __tablename__ = "rounds"
    __table_args__ = {"sqlite_autoincrement": True}  # noqa: RUF012
    number: Mapped[int] = mapped_column(Integer, primary_key=True)
    training: Mapped[str] = mapped_column(ForeignKey("trainings.id"), index=True)
    phase: Mapped[str] = mapped_column(String)  # "evaluating", then "training"
    opened: Mapped[float] = mapped_column(Float)
    closed: Mapped[float | None] = mapped_column(Float, default=None)
    deadline: Mapped[float] = mapped_column(Float)
    attempt: Mapped[int] = mapped_column(Integer, default=1)
    frozen_entities: Mapped[int | None] = mapped_column(Integer, default=None)


class Selection(Base):
    """A client that is to act in a phase of a round."""

    __tablename__ = "selections"
    round: Mapped[int] = mapped_column(ForeignKey("rounds.number"), primary_key=True)
    phase: Mapped[str] = mapped_column(String, primary_key=True)
    client: Mapped[str] = mapped_column(ForeignKey("clients.id"), primary_key=True)


class Update(Base):
    """An accepted update; its tensors are the blob `blobs.update_name(round, client, digest)`."""

    __tablename__ = "updates"
    round: Mapped[int] = mapped_column(ForeignKey("rounds.number"), primary_key=True)
    client: Mapped[str] = mapped_column(ForeignKey("clients.id"), primary_key=True)
    digest: Mapped[str] = mapped_column(String)
    triples: Mapped[int] = mapped_column(Integer)
    loss: Mapped[float] = mapped_column(Float)


class EvaluationRow(Base):
    """A client's metrics of a version, as canonical JSON of `protocol.federation.Evaluation`."""

    __tablename__ = "evaluations"
    round: Mapped[int] = mapped_column(ForeignKey("rounds.number"), primary_key=True)
    client: Mapped[str] = mapped_column(ForeignKey("clients.id"), primary_key=True)
    mode: Mapped[str] = mapped_column(String, primary_key=True)
    split: Mapped[str] = mapped_column(String, primary_key=True)
    content: Mapped[str] = mapped_column(Text)
