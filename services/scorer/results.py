"""What a call comes to, before it is written into a body."""

from dataclasses import dataclass, field

from protocol.messages import Usage
from services.scorer.requests import Floats


@dataclass(frozen=True)
class Scores:
    """A number a triple.

    Attributes:
        scores: float [t]; NaN where the answer could not be read, with the reason in `reasons`.
        probabilities: Of `verdict`, [t]: P(first label) given that the answer is one of the two.
        masses: Of `verdict` and `number`, [t]: probability that the answer is one of those looked at.
        reasons: Why a score is NaN, by its place.
    """

    scores: Floats
    usage: Usage
    probabilities: Floats | None = None
    masses: Floats | None = None
    reasons: dict[int, str] = field(default_factory=dict)


@dataclass(frozen=True)
class States:
    """Hidden states of queries, [q, hidden]."""

    states: Floats
    usage: Usage


@dataclass(frozen=True)
class Gradients:
    """d(loss)/d(vectors) of the entities, [v, hidden], and of the relations, [w, hidden].

    Attributes:
        scores: [t], where triples were scored.
        loss: Its value, where one was named.
    """

    entities: Floats
    relations: Floats
    usage: Usage
    scores: Floats | None = None
    loss: float | None = None
