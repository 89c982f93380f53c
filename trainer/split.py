"""Deal one graph to several clients by relation, as FedE does: every relation belongs to one client at random.

Within each client the triples are split again, 80/10/10. A triple of valid or test whose entity or relation training
would lack goes to training, so that everything ranked has been seen.
"""

import numpy as np

from trainer.graph import SPLITS, DataError, Graph

NamedTriples = list[tuple[str, str, str]]

PARTS = (0.8, 0.1, 0.1)


def deal(graph: Graph, clients: int, seed: int) -> list[dict[str, NamedTriples]]:
    """The named triples of each client by split; the same seed deals the same.

    All of the graph's triples are pooled first: the parts are new, and hold some of its test triples in training.

    Raises:
        DataError: There are fewer relations than clients.
    """
    if not 1 <= clients <= len(graph.relations):
        raise DataError(f"{len(graph.relations)} relations cannot be dealt to {clients} clients: each needs one")
    generator = np.random.default_rng(seed)
    order = generator.permutation(len(graph.relations))
    owner = {graph.relations[relation]: place % clients for place, relation in enumerate(order)}
    owned: list[NamedTriples] = [[] for _ in range(clients)]
    for triple in sorted({triple for split in SPLITS for triple in graph.named(split)}):
        owned[owner[triple[1]]].append(triple)
    return [_split(triples, generator) for triples in owned]


def _split(triples: NamedTriples, generator: np.random.Generator) -> dict[str, NamedTriples]:
    shuffled = [triples[i] for i in generator.permutation(len(triples))]
    ends = np.round(np.cumsum(PARTS) * len(shuffled)).astype(int)
    train, held_out = shuffled[: ends[0]], {"valid": shuffled[ends[0] : ends[1]], "test": shuffled[ends[1] :]}
    seen = {name for h, r, t in train for name in (("e", h), ("r", r), ("e", t))}
    parts: dict[str, NamedTriples] = {"train": train}
    for split, rows in held_out.items():
        parts[split] = []
        for h, r, t in rows:
            names = {("e", h), ("r", r), ("e", t)}
            (parts[split] if names <= seen else train).append((h, r, t))
            seen |= names
    return parts
