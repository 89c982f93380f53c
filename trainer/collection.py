"""Collection: one model trained on all clients' triples pooled, the upper reference that federation is compared with.

It is measured as the other modes are: on each client's own test triples, among that client's own entities.
"""

import numpy as np
from numpy.typing import NDArray

from trainer.answers import Queries
from trainer.graph import SPLITS, DataError, Graph
from trainer.ranking import Scorer


def pool(graphs: list[Graph]) -> Graph:
    """The graph that holds all triples of all graphs."""
    return Graph.from_names({split: [t for graph in graphs for t in graph.named(split)] for split in SPLITS})


def restricted(scorer: Scorer, entities: list[str], relations: list[str], graph: Graph) -> Scorer:
    """A scorer over a model's entities as one over a graph's: the graph's names, and no other candidates.

    Where both have the same names in the same order, it is the scorer itself.

    Args:
        scorer: Scores queries in the model's numbering.
        entities: The model's entities.
        relations: The model's relations.
        graph: Whose numbering and candidates the result has.

    Raises:
        DataError: The graph has an entity or a relation that the model lacks.
    """
    if (entities, relations) == (graph.entities, graph.relations):
        return scorer
    entity = _positions(graph.entities, entities, "entities")
    relation = _positions(graph.relations, relations, "relations")

    def scores(queries: Queries) -> NDArray[np.floating]:
        return scorer(Queries(entity[queries.given], relation[queries.relation], queries.side))[:, entity]

    return scores


def _positions(wanted: list[str], known: list[str], kind: str) -> NDArray[np.int64]:
    position = {name: i for i, name in enumerate(known)}
    missing = [name for name in wanted if name not in position]
    if missing:
        raise DataError(f"{len(missing)} {kind} of the data are unknown to the model, {missing[0]!r} for one")
    return np.array([position[name] for name in wanted], dtype=np.int64)
