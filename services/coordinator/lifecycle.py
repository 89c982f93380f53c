"""The decisions of a training, as pure functions of plain data: who is drawn, when a round closes, when it all ends.

`rounds` applies them in transactions.
"""

import hashlib
import math
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from enum import Enum

from protocol.federation import TrainingSettings


class Decision(Enum):
    """What becomes of an open phase of a round."""

    WAIT = "wait"
    RENEW = "renew"
    CLOSE = "close"


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


def draw_size(clients: int, settings: TrainingSettings) -> int:
    """How many of the clients are drawn at a time."""
    share = math.ceil(settings.fraction * clients - 1e-9)  # 0.1 * 30 is a little over 3 in binary
    return min(clients, max(share, settings.quorum))


def select(candidates: Iterable[str], size: int, *, seed: int, round: int, attempt: int) -> list[str]:
    """Draw `size` of the candidates (all of them where there are fewer), in sorted order.

    The draw is uniform and depends on the set of candidates, the seed, the round and the attempt only: the candidates
    whose digests come first are drawn.
    """

    def lot(client: str) -> bytes:
        return hashlib.sha256(f"select/{seed}/{round}/{attempt}/{client}".encode()).digest()

    return sorted(sorted(candidates, key=lot)[:size])


def close_decision(
    expected: Collection[str], answered: Collection[str], *, quorum: int, deadline: float, now: float
) -> Decision:
    """Whether an open phase closes, goes on with a new deadline, or waits.

    Args:
        expected: Clients that are waited for.
        answered: Clients whose answer is stored.
        quorum: Answers that close the phase at its deadline; never more are needed than are expected.
        deadline: In the unit of `now`.
        now: The time.
    """
    if set(expected) <= set(answered):
        return Decision.CLOSE
    if now < deadline:
        return Decision.WAIT
    return Decision.CLOSE if len(answered) >= min(quorum, len(expected)) else Decision.RENEW


def is_due(rounds_done: int, settings: TrainingSettings) -> bool:
    """Whether the version made by the last of `rounds_done` training rounds is to be evaluated."""
    return rounds_done % settings.evaluate_every == 0 or rounds_done >= settings.rounds


def after_evaluation(standing: Standing, version: int, mrr: float | None) -> Standing:
    """The standing after an evaluation of `version`; `mrr` is None where nobody holds validation triples.

    Without an MRR every version counts as better, so that the latest is the best.
    """
    if mrr is None or standing.best_mrr is None or mrr > standing.best_mrr:
        return Standing(best_version=version, best_mrr=mrr)
    return Standing(standing.best_version, standing.best_mrr, standing.stale + 1)


def is_finished(standing: Standing, rounds_done: int, settings: TrainingSettings) -> bool:
    """Whether the training ends with this evaluation."""
    return standing.stale >= settings.patience or rounds_done >= settings.rounds
