"""A training: everything that is fixed when an operator starts it, and the tensors that follow from it.

It runs in *rounds*, whose numbers grow over the coordinator's life and are never used twice. The global model that
round n starts from is *version* n; it never changes once round n is open.
"""

import math
import re
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from protocol.forms import LlamaForm
from protocol.messages import Strict
from protocol.tensors import TensorSpec

InteractionName = Literal["transe", "distmult", "complex", "rotate", "mlp", "llama"]
LossName = Literal["self_adversarial", "margin_ranking", "cross_entropy"]
Sides = Literal["both", "tail"]
SamplingName = Literal["own", "shared"]
OptimizerName = Literal["adam", "sparse_adam"]
Share = Literal["entities", "relations", "both"]
WireDtype = Literal["float32", "bfloat16", "float16"]
StrategyName = Literal[
    "mean",
    "mean_over_all",
    "frequency",
    "median",
    "trimmed_mean",
    "clipped_mean",
    "momentum",
    "adam",
    "yogi",
]
MAX_DENSE_TENSORS = 32
DENSE_PREFIX = "dense."
_DENSE_NAME = re.compile(r"[a-z0-9_.]{1,64}")


class Dense(Strict):
    """A tensor that all clients train and share whole, as an adapter's weight."""

    shape: list[Annotated[int, Field(ge=1)]] = Field(min_length=1, max_length=4, description="At most 2**26 numbers.")
    init: float = Field(0.0, ge=0, le=1e3, description="Starts uniform in ± this, drawn from the training's seed.")

    @field_validator("shape")
    @classmethod
    def _bounded(cls, shape: list[int]) -> list[int]:
        if math.prod(shape) > 1 << 26:
            raise ValueError("a dense tensor may hold at most 2**26 numbers")
        return shape


class ScorerIdentity(Strict):
    """The scorer that a training is fixed to: a client whose scorer differs does not train."""

    model: str = Field(min_length=1, description="As its `/info` names it.")
    revision: str = Field(min_length=1, description="Of its exact weights, as its `/info` says.")
    dtype: str = Field(min_length=1, description="Of its weights and activations.")
    quantization: str | None = Field(None, description="`8bit` or `4bit`, where its weights are held so.")
    query_hash: str = Field(
        min_length=1, description="Of the templates: `query_hash` of its `/info`; of a readout of triples, that one's."
    )
    hidden: int = Field(ge=1, description="The model's hidden size.")
    description_tokens: int | None = Field(
        None, ge=1, description="Where descriptions are sent: tokens to which it cuts one."
    )


LONGEST_DEADLINE = 7 * 86_400.0
"""Seconds."""


class LocalSettings(LlamaForm):
    """How every client trains on its own graph."""

    loss: LossName = Field(
        "cross_entropy",
        description="`cross_entropy` over all candidates; `self_adversarial` (FedE's) and `margin_ranking` over "
        "sampled negatives.",
    )
    learning_rate: float = Field(1e-3, gt=0, le=10, description="Of Adam, which starts anew each round (FedE).")
    linear_decay: bool = Field(False, description="Let the learning rate fall linearly to zero over `rounds`.")
    optimizer: OptimizerName = Field(
        "adam",
        description="`sparse_adam` moves only the rows that a step has read, for graphs so large that moving all takes "
        "longer than the step itself; not for `cross_entropy`, which reads them all.",
    )
    batch_size: int = Field(
        512,
        ge=1,
        le=1 << 20,
        description="Of one step of the optimiser: (entity, relation) queries for `cross_entropy`; (query, answer) "
        "pairs for the other losses and for readouts of triples.",
    )
    local_epochs: int = Field(3, ge=1, le=1_000, description="Passes over the client's own triples a round.")
    sides: Sides = Field(
        "both", description="`tail` learns, and chooses versions by, tails alone, as FedE was published."
    )
    reciprocal: bool = Field(
        False,
        description="A second vector of each relation for queries that ask for the head; all but `transe` and `rotate` "
        "have it always.",
    )
    dropout: float = Field(0.0, ge=0, lt=1, description="On entity and relation vectors and on the query's state.")
    label_smoothing: float = Field(0.0, ge=0, lt=1, description="Of `cross_entropy`, with the readout `state`.")
    negatives: int = Field(
        256, ge=1, le=1 << 16, description="Sampled a positive, for the other two losses, and with readouts of triples."
    )
    sampling: SamplingName = Field(
        "shared",
        description="`own` draws each positive its negatives, as FedE was published and as readouts of triples always "
        "do; `shared` is faster.",
    )
    margin: float = Field(10.0, ge=0, le=1e6, description="gamma: of distances, and of `margin_ranking`.")
    temperature: float = Field(1.0, ge=0, le=1e6, description="Adversarial temperature of `self_adversarial`.")

    @model_validator(mode="after")
    def _consistent(self) -> "LocalSettings":
        if self.optimizer == "sparse_adam" and self.loss == "cross_entropy":
            raise ValueError("optimizer: `cross_entropy` reads every row in every step; use `adam`, or a sampled loss")
        if self.reciprocal and self.readout != "state":
            raise ValueError(f"reciprocal: the readout `{self.readout}` scores a triple whichever side is asked for")
        if self.label_smoothing and self.readout != "state":
            raise ValueError(f"label_smoothing: with the readout `{self.readout}` the scorer has the loss, without it")
        return self


class AggregationSettings(Strict):
    """How the coordinator makes the next version of a round's updates."""

    strategy: StrategyName = Field(
        "mean",
        description="`mean` of those who reported; `mean_over_all` who hold an entity, as FedE's published code; "
        "`frequency`: mean weighted by an entity's training triples; `median` and `trimmed_mean` by coordinate; "
        "`clipped_mean`: each row's change cut to a norm; `momentum`, `adam`, `yogi`: the mean change as a gradient.",
    )
    trim: float = Field(0.2, ge=0, lt=0.5, description="Of `trimmed_mean`: the part cut off at either end.")
    clip: float = Field(1.0, gt=0, le=1e6, description="Of `clipped_mean`: L2 norm that no row's change may exceed.")
    learning_rate: float | None = Field(
        None, gt=0, le=1e3, description="The server's; 1 for `momentum`, 0.01 for `adam` and `yogi` unless given."
    )
    beta1: float = Field(0.9, ge=0, lt=1, description="Of the mean change's running mean.")
    beta2: float = Field(0.99, ge=0, lt=1, description="Of its square's, in `adam` and `yogi`.")
    tau: float = Field(1e-3, gt=0, le=1e3, description="Added to the root in `adam` and `yogi`: how adaptive they are.")


class TrainingSettings(Strict):
    """The body of `POST /round`: everything that a training fixes for all of its clients."""

    interaction: InteractionName = Field(description="The function that scores a triple.")
    dim: int = Field(256, ge=1, le=16_384, description="Columns of an entity's row on the wire, float32.")
    entity_init: float = Field(0.05, gt=0, le=1e3, description="Entity rows start uniform in ± this.")
    dense: dict[str, Dense] = Field({}, max_length=MAX_DENSE_TENSORS, description="Shared dense tensors by name.")
    scorer: ScorerIdentity | None = Field(None, description="Required for `llama`, absent otherwise.")
    local: LocalSettings = LocalSettings()
    aggregation: AggregationSettings = AggregationSettings()
    share: Share = Field(
        "entities", description="Rows that go to the coordinator: of entities (FedE), of relations (FedR), or of both."
    )
    relation_dim: int | None = Field(
        None, ge=1, le=32_768, description="Columns of a relation's row on the wire; needed where relations are shared."
    )
    relation_init: float = Field(0.05, gt=0, le=1e3, description="Shared relation rows start uniform in ± this.")
    wire_dtype: WireDtype = Field("float32", description="Of rows and dense tensors on their way, in both directions.")
    seed: int = Field(
        0, ge=0, lt=1 << 63, description="Of first rows, of draws of clients, and of each client's own draws."
    )
    clients: int = Field(1, ge=1, le=100_000, description="The training begins when so many clients have joined.")
    fraction: float = Field(1.0, gt=0, le=1, description="Part of the clients that is drawn for a round.")
    over_selection: float = Field(
        0.0, ge=0, le=4, description="Further part drawn; a round closes once as many as `fraction` asks have answered."
    )
    quorum: int = Field(1, ge=1, description="Updates that close a round at its deadline.")
    attempts: int = Field(
        3, ge=1, le=1_000, description="Deadlines in a row below the quorum, after which the training pauses."
    )
    deadline_seconds: float = Field(
        600.0,
        gt=0,
        le=LONGEST_DEADLINE,
        description="Of each phase of a round; renewed below the quorum and on resuming.",
    )
    rounds: int = Field(100, ge=1, le=1_000_000, description="At most so many rounds.")
    evaluate_every: int = Field(
        5, ge=1, le=1_000_000, description="Rounds between two evaluations on validation triples."
    )
    patience: int = Field(3, ge=1, le=1_000_000, description="Evaluations without a better MRR that end the training.")
    tie_tolerance: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="Candidates of a query are level where their scores differ by no more than this part of the "
        "largest absolute one; for scores of 16 bits.",
    )

    @model_validator(mode="after")
    def _consistent(self) -> "TrainingSettings":
        if (self.interaction == "llama") != (self.scorer is not None):
            raise ValueError("scorer: `llama` needs it, and no other interaction may have it")
        if self.interaction in ("complex", "rotate") and self.dim % 2:
            raise ValueError(f"dim: `{self.interaction}` stores a complex number in two columns; dim must be even")
        if (self.share == "entities") != (self.relation_dim is None):
            raise ValueError("relation_dim: trainings that share relations need it, and no other may have it")
        if self.scorer and self.local.adapter == "none" and self.dim != self.scorer.hidden:
            raise ValueError(
                f"dim: without an adapter it is the hidden size of the scorer's model, {self.scorer.hidden}"
            )
        if self.scorer and not self.local.vectors and self.share != "entities":
            raise ValueError("share: relations have no rows where slots hold texts alone; let it be `entities`")
        if self.aggregation.strategy == "frequency" and self.share != "entities":
            raise ValueError("aggregation.strategy: `frequency` counts an entity's triples; it needs share `entities`")
        if self.quorum > self.clients:
            raise ValueError("quorum: cannot be greater than clients")
        if bad := [name for name in self.dense if not _DENSE_NAME.fullmatch(name)]:
            raise ValueError(f"dense: {bad[0]!r} is not a name of lower-case letters, digits, `_` and `.`")
        return self


WIRE_DTYPES: dict[WireDtype, str] = {"float32": "F32", "bfloat16": "BF16", "float16": "F16"}
"""How `protocol.tensors` writes them."""


def model_tensors(settings: TrainingSettings, entities: int, relations: int = 0) -> dict[str, TensorSpec]:
    """The tensors of a client's share of the global model, as downloaded.

    What the training shares of `entities` [entities, dim] and `relations` [relations, relation_dim], each in the
    client's own order, and each dense tensor as `dense.<name>`; all of them in the training's `wire_dtype`.
    """
    dtype = WIRE_DTYPES[settings.wire_dtype]
    specs = {}
    if settings.share != "relations":
        specs["entities"] = TensorSpec(dtype, (entities, settings.dim))
    if settings.relation_dim is not None:
        specs["relations"] = TensorSpec(dtype, (relations, settings.relation_dim))
    for name, dense in settings.dense.items():
        specs[DENSE_PREFIX + name] = TensorSpec(dtype, tuple(dense.shape))
    return specs


def update_tensors(settings: TrainingSettings, entities: int, relations: int = 0) -> dict[str, TensorSpec]:
    """The tensors of an update: `model_tensors`, and for `frequency` int32 `frequencies` [entities].

    An entity's frequency is the number of the client's training triples that it stands in.
    """
    specs = model_tensors(settings, entities, relations)
    if settings.aggregation.strategy == "frequency":
        specs["frequencies"] = TensorSpec("I32", (entities,))
    return specs
