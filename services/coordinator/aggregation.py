"""FedE's aggregation: the next global model, as a pure function of the last one and the round's updates.

Running it again on the same updates, in the same order, gives the same bytes. Chen et al., "FedE: Embedding Knowledge
Graphs in Federated Setting", IJCKG 2021, eq. 4, with two corrections to the published code: only clients that reported
count, and an entity that nobody reported keeps its row instead of becoming 0/0.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from protocol.federation import DENSE_PREFIX
from protocol.tensors import Array


@dataclass(frozen=True)
class ClientUpdate:
    """What one client reported.

    Attributes:
        rows: int64 [n], the distinct global rows of its entities, in its own order.
        triples: Training triples, the weight of its dense tensors.
        tensors: `entities` float32 [n, dim] and `dense.<name>` float32.
    """

    rows: NDArray[np.int64]
    triples: int
    tensors: Mapping[str, Array]


def aggregate(previous: Mapping[str, Array], updates: Iterable[ClientUpdate]) -> dict[str, Array]:
    """The next global model.

    Args:
        previous: `entities` float32 [entities, dim] and `dense.<name>` float32. Not changed.
        updates: At least one, in sorted order of client ids; taken one at a time, so one is in memory at a time.

    Returns:
        The same names, shapes and dtypes. An entity's row is the mean over the clients that reported it; a row that
        nobody reported is the previous one, bit for bit; a dense tensor is the mean weighted by training triples.
    """
    last = previous["entities"]
    sums = {name: np.zeros(tensor.shape, np.float64) for name, tensor in previous.items()}
    reports = np.zeros(len(last), np.int64)
    triples = 0
    for update in updates:
        sums["entities"][update.rows] += update.tensors["entities"]
        reports[update.rows] += 1
        triples += update.triples
        for name in previous:
            if name.startswith(DENSE_PREFIX):
                sums[name] += update.triples * update.tensors[name].astype(np.float64)
    reported = reports > 0
    entities = last.copy()
    entities[reported] = sums["entities"][reported] / reports[reported, None]
    dense = {n: (total / triples).astype(np.float32) for n, total in sums.items() if n.startswith(DENSE_PREFIX)}
    return {"entities": entities, **dense}
