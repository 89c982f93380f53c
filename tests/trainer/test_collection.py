import numpy as np
import pytest

from protocol.messages import HEAD, TAIL
from trainer.collection import pool, restricted
from trainer.graph import DataError, Graph
from trainer.ranking import Floats, Scorer, known_answers, rank
from trainer.split import deal

from .support import queries

POOLED = Graph.from_names({"train": [("a", "r", "b"), ("c", "s", "d"), ("e", "t", "a"), ("d", "s", "e")]})
OWN = Graph.from_names({"train": [("d", "s", "e"), ("a", "t", "d")], "test": [("e", "s", "a")]})
GENERATOR = np.random.default_rng(0)
TABLE: Floats = GENERATOR.standard_normal((2, len(POOLED.relations), len(POOLED.entities), len(POOLED.entities)))


def model() -> Scorer:
    return lambda q: TABLE[q.side, q.relation, q.given]


def test_scores_are_the_models_in_the_graphs_own_numbering() -> None:
    assert (OWN.entities, OWN.relations) == (["a", "d", "e"], ["s", "t"])
    scores = restricted(model(), POOLED.entities, POOLED.relations, OWN)(queries((1, 0, TAIL), (2, 1, HEAD)))
    columns = [0, 3, 4]  # a, d, e among a, b, c, d, e
    np.testing.assert_array_equal(scores, [TABLE[TAIL, 1, 3, columns], TABLE[HEAD, 2, 4, columns]])


def test_ranks_are_among_the_graphs_own_entities() -> None:
    ranks = rank(
        OWN.triples["test"], known_answers(OWN, "test"), restricted(model(), POOLED.entities, POOLED.relations, OWN)
    )
    own = TABLE[TAIL, 1, 4, [0, 3, 4]]
    assert ranks.tail.realistic.tolist() == [1 + int((own > own[0]).sum())]


@pytest.mark.parametrize(
    ("entities", "relations", "message"),
    [
        (["a", "e"], ["s", "t"], "1 entities of the data are unknown to the model, 'd'"),
        (["a", "d", "e"], ["r"], "2 relations of the data are unknown to the model, 's'"),
    ],
)
def test_names_that_the_model_lacks_are_named(entities: list[str], relations: list[str], message: str) -> None:
    with pytest.raises(DataError, match=message):
        restricted(model(), entities, relations, OWN)


def test_the_pool_of_what_was_dealt_is_the_whole(umls: Graph) -> None:
    graphs = [Graph.from_names(part) for part in deal(umls, 3, seed=0)]
    pooled = pool(graphs)
    assert pooled.entities == umls.entities
    assert pooled.relations == umls.relations
    for split in ("train", "valid", "test"):
        assert sorted(pooled.named(split)) == sorted(t for graph in graphs for t in graph.named(split))
