"""Two-stage evaluation: a model's shortlist of each query, put in order by the scorer, and by both together.

What knowledge graph papers call re-ranking. The first model is asked about all candidates, the second one about those
few that the first puts on top (`shortlists`); their scores are fused as `fusion` does it, within each list.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from protocol.rounds import SideName, Split
from trainer.fusion import SHARES, Fusion, learned, reciprocal
from trainer.graph import Graph, Triples
from trainer.metrics import Ranks
from trainer.ranking import Asked, Scorer, known_answers
from trainer.shortlists import Floats, Shortlists

Judged = Callable[[Shortlists], Floats]
"""Another model's scores of what is on the lists, float64 [i, size]."""


@dataclass(frozen=True)
class Reranked:
    """Test triples, ranked in three ways.

    Attributes:
        alone: By the first model.
        reranked: Its lists in the order of the other's scores.
        mixture: Its lists in the order of both models' standardised scores.
        fusion: The other's shares in that.
        recall: Part of the answers that are on their list.
        fitted: Validation triples that the shares were learned on.
    """

    alone: Ranks
    reranked: Ranks
    mixture: Ranks
    fusion: Fusion
    recall: dict[SideName, float]
    fitted: int


def rerank(graph: Graph, scorer: Scorer, judged: Judged, size: int, tolerance: float, limit: int | None) -> Reranked:
    """Rank test triples by a model, by another on its lists, and by both, with shares learned on validation triples.

    Args:
        graph: With at least one test triple.
        scorer: The first model, in the graph's numbering.
        judged: The other.
        size: Of a list.
        tolerance: For ties, as of `trainer.ranking.rank`.
        limit: The most triples of either split; a random sample, always the same one, where there are more.

    Raises:
        ScoresNotFinite: The first model scored NaN or infinity.
    """

    def lists(split: Split) -> Shortlists:
        asked = Asked.of(sampled(graph.triples[split], limit), known_answers(graph, split))
        return Shortlists.of(asked, scorer, size, tolerance)

    valid, test = lists("valid"), lists("test")
    fusion = learned(_quality(valid, judged(valid)))
    scores = judged(test)
    mixed = fusion.fuse(test.standard(test.scores), test.standard(scores), test.queries)
    ranks = (test.ranks(), test.ranks(scores), test.ranks(mixed))
    return Reranked(*ranks, fusion, test.recall(), len(valid.asked.triples))


def sampled(triples: Triples, limit: int | None) -> Triples:
    """At most so many of the triples, in their order."""
    if limit is None or limit >= len(triples):
        return triples
    return triples[np.sort(np.random.default_rng(0).permutation(len(triples))[:limit])]


def _quality(lists: Shortlists, scores: Floats) -> Floats:
    """Reciprocal ranks with each share, as `fusion.learned` takes them."""
    first, second = lists.standard(lists.scores), lists.standard(scores)
    fusions = [Fusion.of_shares(share, share) for share in SHARES]
    ranks = [lists.ranks(fusion.fuse(first, second, lists.queries)) for fusion in fusions]
    return np.stack([reciprocal(each) for each in ranks], axis=1)
