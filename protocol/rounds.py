"""Messages of rounds: how a client sees one, what it sends, and what is kept as history."""

import math
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from protocol.messages import Strict
from protocol.trainings import TrainingSettings

Mode = Literal["isolation", "collection", "federation", "fusion"]
Split = Literal["valid", "test"]
SideName = Literal["both", "head", "tail"]
Part = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Phase = Literal["idle", "joining", "selecting", "training", "aggregating", "evaluating", "paused", "finished"]


class RoundView(Strict):
    """`GET /round`: the round as this client should see it."""

    event: int = Field(description="Grows with every change; pass it as `after` to wait for the next one.")
    training: str | None = Field(description="Id of the training; null before the first.")
    phase: Phase
    round: int | None = Field(description="Number of the round; null until enough clients have joined.")
    selected: bool = Field(description="Whether this client is to act: train, or evaluate in phase `evaluating`.")
    answered: bool = Field(description="Whether this client's update or evaluation for the phase is in.")
    deadline: datetime | None = None
    paused: str | None = Field(None, description="Why the training is paused; null while it is not.")
    rounds_done: int = Field(0, description="Rounds of this training that have closed.")
    best_version: int | None = Field(None, description="Version with the best validation MRR so far.")
    best_mrr: float | None = None
    clients: int = Field(
        description="Members that hold rows of what the training shares, and so can take part; all of them where there "
        "is no training."
    )
    alone: bool = Field(
        False,
        description="Whether a training runs and this client holds nothing of what it shares that another member holds "
        "too, as counted when the round opened: most likely its shared key is not theirs. False for the only member.",
    )
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
    """Filtered rank metrics (docs/metrics.md). Ranks are realistic: level candidates share their mean position."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True, serialize_by_alias=True)

    mrr: Part = Field(description="Mean reciprocal rank.")
    hits_at_1: Part = Field(alias="hits@1", description="Part of ranks that are at most 1; likewise 3, 5 and 10.")
    hits_at_3: Part = Field(alias="hits@3")
    hits_at_5: Part = Field(alias="hits@5")
    hits_at_10: Part = Field(alias="hits@10")
    mr: float = Field(ge=1, le=1 << 40, allow_inf_nan=False, description="Mean rank.")
    amri: float = Field(
        ge=-1, le=1, allow_inf_nan=False, description="Adjusted mean rank index: 1 is perfect, 0 is chance."
    )
    mrr_gap: Part = Field(description="MRR with the best place among level candidates minus that with the worst.")

    @classmethod
    def mean(cls, metrics: Sequence["Metrics"], weights: Sequence[float]) -> "Metrics":
        """Each field's weighted mean. Sums are exact, so their order does not matter."""

        def of(field: str) -> float:
            values: list[float] = [getattr(each, field) for each in metrics]
            mean = math.fsum(weight * value for weight, value in zip(weights, values, strict=True)) / math.fsum(weights)
            return min(max(mean, min(values)), max(values))  # rounding could lift a mean of ones a little over one

        return cls(**{field: of(field) for field in cls.model_fields})


class Evaluation(Strict):
    """The body of `PUT /round/{n}/evaluation`: one client's metrics of version n."""

    mode: Mode
    split: Split
    triples: int = Field(ge=1, le=1 << 40, description="Triples ranked: the weight in the mean over clients.")
    sides: dict[SideName, Metrics] = Field(
        min_length=1, description="Must hold `both`, and `tail` where the training's `sides` says so."
    )

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
    """Metrics averaged over clients."""

    mode: Mode
    split: Split
    clients: int = Field(description="Clients that reported.")
    triples: int
    sides: dict[SideName, Metrics] = Field(description="Means weighted by the clients' triples (FedE).")
    macro: dict[SideName, Metrics] = Field(description="Plain means: every client counts the same.")


class RoundSummary(Strict):
    """One round, as history."""

    round: int
    training: str
    phase: Phase
    opened: datetime
    closed: datetime | None
    selected: int = Field(description="Clients drawn.")
    updates: int = Field(description="Updates accepted.")
    bytes: int = Field(description="Of these updates.")
    loss: float | None = Field(description="Mean training loss of the updates, weighted by training triples.")
    evaluations: list[MeanEvaluation]


class TrainingSummary(Strict):
    """One training, as history."""

    training: str
    phase: Phase
    started: datetime
    finished: datetime | None
    stopped: bool = Field(description="Whether an operator ended it, before it came to its own end.")
    paused: str | None = Field(description="Why it is paused; null while it is not.")
    rounds_done: int
    best_version: int | None
    best_mrr: float | None
    settings: TrainingSettings


class Rounds(Strict):
    """`GET /rounds`: trainings, and their rounds from the newest to the oldest."""

    trainings: list[TrainingSummary]
    rounds: list[RoundSummary]
    next_before: int | None = Field(None, description="Pass as `before` for older rounds; null at the end.")
