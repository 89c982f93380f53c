"""Messages of the coordinator: joining, rounds, updates and evaluations.

A *training* is fixed when an operator starts it. It runs in *rounds*, whose numbers grow over the coordinator's life
and are never used twice. The global model that round n starts from is *version* n; it never changes once round n is
open.
"""

import math
import re
from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from protocol.messages import Strict
from protocol.tensors import TensorSpec

InteractionName = Literal["transe", "distmult", "complex", "rotate", "mlp", "llama"]
LossName = Literal["self_adversarial", "margin_ranking", "cross_entropy"]
Mode = Literal["isolation", "collection", "federation", "fusion"]
Split = Literal["valid", "test"]
SideName = Literal["both", "head", "tail"]
Phase = Literal["idle", "joining", "training", "evaluating", "finished"]

EntityKey = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$", description="HMAC-SHA256 of the entity id, hex.")]

MAX_DENSE_TENSORS = 32
DENSE_PREFIX = "dense."
_DENSE_NAME = re.compile(r"[a-z0-9_.]{1,64}")


class Dense(Strict):
    """A tensor that all clients train and share whole, as an adapter's weight."""

    shape: list[Annotated[int, Field(ge=1)]] = Field(min_length=1, max_length=4)
    init: float = Field(0.0, ge=0, le=1e3, description="Starts uniform in ± this, drawn from the training's seed.")

    @field_validator("shape")
    @classmethod
    def _bounded(cls, shape: list[int]) -> list[int]:
        if math.prod(shape) > 1 << 26:
            raise ValueError("a dense tensor may hold at most 2**26 numbers")
        return shape


class ScorerIdentity(Strict):
    """The scorer that a training is fixed to: a client whose scorer differs does not train."""

    model: str = Field(min_length=1)
    revision: str = Field(min_length=1)
    dtype: str = Field(min_length=1, description="Of its weights and activations.")
    quantization: str | None = Field(None, description="`8bit` or `4bit`, where its weights are held so.")
    query_hash: str = Field(min_length=1, description="As the scorer's `/info` states it.")
    hidden: int = Field(ge=1, description="The model's hidden size.")


class LocalSettings(Strict):
    """How every client trains on its own graph."""

    loss: LossName = "cross_entropy"
    learning_rate: float = Field(1e-3, gt=0, le=10, description="Of Adam, which starts anew each round (FedE).")
    linear_decay: bool = Field(False, description="Let the learning rate fall linearly to zero over `rounds`.")
    batch_size: int = Field(512, ge=1, le=1 << 20, description="Unique (entity, relation) queries a step.")
    local_epochs: int = Field(3, ge=1, le=1_000, description="Passes over the client's own queries a round.")
    dropout: float = Field(0.0, ge=0, lt=1, description="On entity and relation vectors and on the query's state.")
    label_smoothing: float = Field(0.0, ge=0, lt=1, description="Of `cross_entropy`.")
    negatives: int = Field(256, ge=1, le=1 << 16, description="Sampled a positive, for the other two losses.")
    margin: float = Field(10.0, ge=0, le=1e6, description="gamma: of distances, and of `margin_ranking`.")
    temperature: float = Field(1.0, ge=0, le=1e6, description="Adversarial temperature of `self_adversarial`.")
    vectors_per_slot: int = Field(1, ge=1, le=64, description="Of `llama`: vectors that stand for one entity.")


class TrainingSettings(Strict):
    """The body of `POST /round`: everything that a training fixes for all of its clients."""

    interaction: InteractionName = Field(description="The function that scores a triple.")
    dim: int = Field(256, ge=1, le=16_384, description="Columns of an entity's row on the wire, float32.")
    entity_init: float = Field(0.05, gt=0, le=1e3, description="Entity rows start uniform in ± this.")
    dense: dict[str, Dense] = Field({}, max_length=MAX_DENSE_TENSORS, description="Shared dense tensors by name.")
    scorer: ScorerIdentity | None = Field(None, description="Required for `llama`, absent otherwise.")
    local: LocalSettings = LocalSettings()
    seed: int = Field(0, ge=0, lt=1 << 63)
    clients: int = Field(1, ge=1, le=100_000, description="The training begins when so many clients have joined.")
    fraction: float = Field(1.0, gt=0, le=1, description="Part of the clients that is drawn for a round.")
    quorum: int = Field(1, ge=1, description="Updates that close a round at its deadline.")
    deadline_seconds: float = Field(600.0, gt=0, le=7 * 86_400, description="From a round's opening.")
    rounds: int = Field(100, ge=1, le=1_000_000, description="At most so many rounds.")
    evaluate_every: int = Field(
        5, ge=1, le=1_000_000, description="Rounds between two evaluations on validation triples."
    )
    patience: int = Field(3, ge=1, le=1_000_000, description="Evaluations without a better MRR that end the training.")

    @model_validator(mode="after")
    def _consistent(self) -> "TrainingSettings":
        if (self.interaction == "llama") != (self.scorer is not None):
            raise ValueError("scorer: `llama` needs it, and no other interaction may have it")
        if self.interaction in ("complex", "rotate") and self.dim % 2:
            raise ValueError(f"dim: `{self.interaction}` stores a complex number in two columns; dim must be even")
        if self.quorum > self.clients:
            raise ValueError("quorum: cannot be greater than clients")
        if bad := [name for name in self.dense if not _DENSE_NAME.fullmatch(name)]:
            raise ValueError(f"dense: {bad[0]!r} is not a name of lower-case letters, digits, `_` and `.`")
        return self


class JoinRequest(Strict):
    """The body of `POST /clients`. The invitation token goes into the Authorization header."""

    name: str = Field(min_length=1, max_length=100, description="For people; need not be unique.")
    join_key: str = Field(
        pattern=r"^[0-9a-f]{64}$",
        description="Random, made once by the client and kept: joining again with it is the same client again.",
    )
    entities: list[EntityKey] = Field(min_length=1, max_length=10_000_000, description="Distinct; their order is kept.")
    triples: dict[Literal["train", "valid", "test"], Annotated[int, Field(ge=0, le=1 << 40)]] = Field(
        description="How many triples the client holds; the coordinator never sees the triples."
    )

    @field_validator("triples")
    @classmethod
    def _counts(cls, triples: dict[str, int]) -> dict[str, int]:
        if missing := {"train", "valid", "test"} - set(triples):
            raise ValueError(f"the count of {' and '.join(sorted(missing))} is missing")
        return triples

    @field_validator("entities")
    @classmethod
    def _distinct(cls, entities: list[str]) -> list[str]:
        if len(set(entities)) != len(entities):
            raise ValueError("an entity key occurs twice; every entity has one row")
        return entities


class JoinReply(Strict):
    """Who the client is from now on. The secret is shown once; the coordinator keeps its digest only."""

    client: str = Field(description="The client's id.")
    secret: str = Field(description="Bearer token of all later calls.")


class RoundView(Strict):
    """`GET /round`: the round as this client should see it."""

    event: int = Field(description="Grows with every change; pass it as `after` to wait for the next one.")
    training: str | None = Field(description="Id of the training; null before the first.")
    phase: Phase
    round: int | None = Field(description="Number of the round; null until enough clients have joined.")
    selected: bool = Field(description="Whether this client is to act: train, or evaluate in phase `evaluating`.")
    answered: bool = Field(description="Whether this client's update or evaluation for the phase is in.")
    deadline: datetime | None = None
    rounds_done: int = Field(0, description="Rounds of this training that have closed.")
    best_version: int | None = Field(None, description="Version with the best validation MRR so far.")
    best_mrr: float | None = None
    clients: int = Field(description="Clients that have joined.")
    settings: TrainingSettings | None = None


class UpdateHeader(Strict):
    """The message of an update's safetensors body."""

    triples: int = Field(ge=1, le=1 << 40, description="Training triples: the weight of the dense tensors' mean.")
    loss: float = Field(ge=-1e30, le=1e30, description="Mean training loss of the last local epoch.")


class UpdateReceipt(Strict):
    """An update is stored: it will be counted once, also if the coordinator is killed now."""

    training: str
    round: int
    client: str
    digest: str = Field(description="SHA-256 of the body that was stored, hex.")


class Metrics(BaseModel):
    """Filtered, realistic rank metrics."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True, serialize_by_alias=True)

    mrr: float = Field(ge=0, le=1, allow_inf_nan=False)
    hits_at_1: float = Field(ge=0, le=1, allow_inf_nan=False, alias="hits@1")
    hits_at_3: float = Field(ge=0, le=1, allow_inf_nan=False, alias="hits@3")
    hits_at_10: float = Field(ge=0, le=1, allow_inf_nan=False, alias="hits@10")


class Evaluation(Strict):
    """The body of `PUT /round/{n}/evaluation`: one client's metrics of version n."""

    mode: Mode
    split: Split
    triples: int = Field(ge=1, le=1 << 40, description="Triples ranked: the weight in the mean over clients.")
    sides: dict[SideName, Metrics] = Field(min_length=1, description="Must hold `both`.")

    @field_validator("sides")
    @classmethod
    def _has_both(cls, sides: dict[SideName, Metrics]) -> dict[SideName, Metrics]:
        if "both" not in sides:
            raise ValueError("the metrics over both sides are missing; model selection needs them")
        return sides


class EvaluationReceipt(Strict):
    """The evaluation is stored."""

    training: str
    round: int
    client: str
    mode: Mode
    split: Split


class MeanEvaluation(Strict):
    """Metrics averaged over clients, weighted by their triples (FedE)."""

    mode: Mode
    split: Split
    clients: int = Field(description="Clients that reported.")
    triples: int
    sides: dict[SideName, Metrics]


class RoundSummary(Strict):
    """One round, as history."""

    round: int
    training: str
    phase: Phase
    opened: datetime
    closed: datetime | None
    selected: int = Field(description="Clients drawn.")
    updates: int = Field(description="Updates accepted.")
    loss: float | None = Field(description="Mean training loss of the updates, weighted by training triples.")
    evaluations: list[MeanEvaluation]


class TrainingSummary(Strict):
    """One training, as history."""

    training: str
    phase: Phase
    started: datetime
    finished: datetime | None
    best_version: int | None
    best_mrr: float | None
    settings: TrainingSettings


class Rounds(Strict):
    """`GET /rounds`: trainings, and their rounds from the newest to the oldest."""

    trainings: list[TrainingSummary]
    rounds: list[RoundSummary]
    next_before: int | None = Field(None, description="Pass as `before` for older rounds; null at the end.")


def model_tensors(settings: TrainingSettings, rows: int) -> dict[str, TensorSpec]:
    """The tensors of a client's share of the global model, as downloaded and as sent in an update.

    `entities` is float32 [rows, dim] in the client's own order; each dense tensor travels as `dense.<name>`.
    """
    specs = {"entities": TensorSpec("F32", (rows, settings.dim))}
    for name, dense in settings.dense.items():
        specs[DENSE_PREFIX + name] = TensorSpec("F32", tuple(dense.shape))
    return specs
