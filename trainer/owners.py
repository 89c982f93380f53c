"""Who gets which triple of a graph that is dealt to clients: by relations, by clusters of relations, or by triples."""

from collections.abc import Callable, Mapping
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from trainer.graph import DataError, Triples

By = Literal["relations", "clusters", "triples"]
Owners = NDArray[np.int64]
"""int64 [n]: the client, from 0, of each of n things."""
Shares = NDArray[np.float64] | None
"""float64 [clients], which sum to one: what part of all triples each client should get; None is the same for all."""


def owners(by: By, triples: Triples, clients: int, shares: Shares, generator: np.random.Generator) -> Owners:
    """The client of each triple, [t].

    Args:
        by: What stays together: a relation's triples, those of related relations, or none.
        triples: int64 [t, 3], all triples of the graph.
        clients: How many there are.
        shares: How much each gets, where `by` is not `clusters`.
        generator: Of every random choice.

    Raises:
        DataError: There are fewer relations than clients, and each should have one.
    """
    relations = int(triples[:, 1].max()) + 1
    if by != "triples" and clients > relations:
        raise DataError(f"{relations} relations cannot be dealt to {clients} clients: each needs one")
    return _WAYS[by](triples, clients, shares, generator)


def _by_relations(triples: Triples, clients: int, shares: Shares, generator: np.random.Generator) -> Owners:
    """Relations in random order: in turn to every client, as FedE, or each to whom most is lacking of its share."""
    sizes = np.bincount(triples[:, 1])
    order = generator.permutation(len(sizes))
    owner = np.empty(len(sizes), dtype=np.int64)
    if shares is None:
        owner[order] = np.arange(len(sizes)) % clients
    else:
        lacking = shares * len(triples)
        for relation in order:
            owner[relation] = lacking.argmax()
            lacking[owner[relation]] -= sizes[relation]
    return owner[triples[:, 1]]


def _by_clusters(triples: Triples, clients: int, shares: Shares, generator: np.random.Generator) -> Owners:
    """Spectral clusters of relations that share entities, as FedLU (https://arxiv.org/abs/2302.02069).

    Two relations are as close as the number of entities that occur with both. Clusters are read off the eigenvectors
    by QR (Damle, Minden and Ying 2019, https://doi.org/10.1093/imaiai/iay008), which needs no random start as k-means
    does, and leaves fewer clients with one relation.
    """
    # Slow to import, and needed nowhere else.
    from scipy.sparse import csr_array
    from sklearn.cluster import SpectralClustering

    pairs = np.unique(np.concatenate([triples[:, :2], triples[:, [2, 1]]]), axis=0)
    held = csr_array((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])))
    shared = (held.T @ held).toarray()
    if clients in (1, len(shared)):
        return np.arange(clients).repeat(len(shared) // clients)[triples[:, 1]]
    # A thread between all relations: the eigenvectors of a graph in pieces would not be determined.
    start = int(generator.integers(2**31))
    clusters = SpectralClustering(clients, affinity="precomputed", assign_labels="cluster_qr", random_state=start)
    owner: Owners = clusters.fit_predict(shared + _THREAD).astype(np.int64)
    return owner[triples[:, 1]]


def _by_triples(triples: Triples, clients: int, shares: Shares, generator: np.random.Generator) -> Owners:
    """Triples in random order: in turn to every client, as FedR (https://arxiv.org/abs/2203.09553), or cut by share."""
    places = np.arange(len(triples))
    if shares is None:
        dealt = places % clients
    else:
        dealt = np.searchsorted(np.round(np.cumsum(shares)[:-1] * len(triples)), places, side="right")
    owner = np.empty(len(triples), dtype=np.int64)
    owner[generator.permutation(len(triples))] = dealt
    return owner


_THREAD = 1e-6
_WAYS: Mapping[By, Callable[[Triples, int, Shares, np.random.Generator], Owners]] = {
    "relations": _by_relations,
    "clusters": _by_clusters,
    "triples": _by_triples,
}
