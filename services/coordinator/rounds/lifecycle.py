"""The decisions of a training, as pure functions of plain data: what is to be done next, who is drawn, when it ends.

`situation` reads the data, `advance` carries the decisions out.
"""

import hashlib
import math
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Literal

from protocol.trainings import TrainingSettings

RoundPhase = Literal["selecting", "training", "aggregating", "evaluating"]


class Step(Enum):
    """What a training needs next."""

    OPEN = "open its first round"
    SELECT = "draw the clients that train"
    DRAW = "draw further clients, as those drawn are gone"
    RENEW = "go on with the same phase, a new deadline and further clients"
    FREEZE = "declare the round's updates complete"
    AGGREGATE = "make the next version of the frozen updates, and open the next round"
    SETTLE = "decide on the evaluated version"
    PAUSE = "wait for the operator"


@dataclass(frozen=True)
class Facts:
    """What is known of a training that is neither finished nor paused.

    Attributes:
        phase: Of its current round; `joining` before the first.
        able: Members that can take part in it.
        undrawn: Those of them that are not drawn in this phase.
        waiting: Members that are drawn and have not answered.
        answers: Answers that are stored, also of clients that have left since.
        goal: Answers that close the phase before its deadline.
        attempt: Counts the deadlines of this phase, from 1.
        deadline: In the unit of `now`.
        now: The time.
    """

    phase: Literal["joining"] | RoundPhase
    able: int
    undrawn: int = 0
    waiting: int = 0
    answers: int = 0
    goal: int = 0
    attempt: int = 1
    deadline: float = math.inf
    now: float = 0.0


def next_step(facts: Facts, settings: TrainingSettings) -> Step | None:
    """What is to be done now; None where there is nothing but to wait."""
    match facts.phase:
        case "joining":
            return Step.OPEN if facts.able >= settings.clients else None
        case "selecting":
            if facts.able >= settings.quorum:
                return Step.SELECT
            return Step.PAUSE if facts.now >= facts.deadline else None
        case "training":
            return _training(facts, settings)
        case "aggregating":
            return Step.AGGREGATE
        case "evaluating":
            if not facts.waiting:
                return Step.SETTLE
            # Who holds no validation triples is not waited for, so there may be fewer than a quorum to wait for.
            quorum = min(settings.quorum, facts.answers + facts.waiting)
            return _at_deadline(facts, settings, Step.SETTLE if facts.answers >= quorum else None)


def _training(facts: Facts, settings: TrainingSettings) -> Step | None:
    enough = facts.answers >= settings.quorum
    if enough and (facts.answers >= facts.goal or not facts.waiting):
        return Step.FREEZE
    if not facts.waiting and facts.undrawn:
        return Step.DRAW
    return _at_deadline(facts, settings, Step.FREEZE if enough else None)


def _at_deadline(facts: Facts, settings: TrainingSettings, close: Step | None) -> Step | None:
    """Close with a quorum; without one (`close` is None) go on, for so many attempts."""
    if facts.now < facts.deadline:
        return None
    return close or (Step.RENEW if facts.attempt < settings.attempts else Step.PAUSE)


def goal_size(clients: int, settings: TrainingSettings) -> int:
    """How many of the clients a round asks updates of: `fraction`, and no fewer than a quorum."""
    return min(clients, max(_share(settings.fraction, clients), settings.quorum))


def draw_size(clients: int, settings: TrainingSettings) -> int:
    """How many of the clients are drawn for that: with `over_selection`, more than the goal (Bonawitz et al., 2019)."""
    return min(clients, _share(1 + settings.over_selection, goal_size(clients, settings)))


def _share(part: float, of: int) -> int:
    return math.ceil(part * of - 1e-9)  # 0.1 * 30 is a little over 3 in binary


def select(candidates: Iterable[str], size: int, *, seed: int, round: int, attempt: int) -> list[str]:
    """Draw `size` of the candidates (all of them where there are fewer), in sorted order.

    The draw is uniform and depends on the set of candidates, the seed, the round and the attempt only: the candidates
    whose digests come first are drawn.
    """

    def lot(client: str) -> bytes:
        return hashlib.sha256(f"select/{seed}/{round}/{attempt}/{client}".encode()).digest()

    return sorted(sorted(candidates, key=lot)[:size])


def is_due(rounds_done: int, settings: TrainingSettings) -> bool:
    """Whether the version made by the last of `rounds_done` training rounds is to be evaluated."""
    return rounds_done % settings.evaluate_every == 0 or rounds_done >= settings.rounds


@dataclass(frozen=True)
class Standing:
    """How a training stands after its evaluations.

    Attributes:
        best_version: The version with the best validation MRR so far.
        best_mrr: That MRR; None where nobody holds validation triples.
        stale: Evaluations in a row that brought nothing better.
    """

    best_version: int | None = None
    best_mrr: float | None = None
    stale: int = 0


def after_evaluation(standing: Standing, version: int, mrr: float | None) -> Standing:
    """The standing after an evaluation of `version`; `mrr` is None where nobody has answered.

    Where nobody holds validation triples every version counts as better, so that the latest is the best. Where those
    who did have left, the version that they chose stays.
    """
    if standing.best_mrr is None or (mrr is not None and mrr > standing.best_mrr):
        return Standing(best_version=version, best_mrr=mrr)
    return Standing(standing.best_version, standing.best_mrr, standing.stale + 1)


def is_finished(standing: Standing, rounds_done: int, settings: TrainingSettings) -> bool:
    """Whether the training ends with this evaluation."""
    return standing.stale >= settings.patience or rounds_done >= settings.rounds
