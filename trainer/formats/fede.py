"""FedE's data sets: a pickle of a list with one dict a client (https://github.com/zjukg/FedE, `data/README.md`).

Each client has `train`, `valid` and `test`, each with `edge_index` [2, t] and `edge_type` [t], numbered by the client,
and with the numbers that all clients share: `edge_index_ori` [2, t] and `edge_type_ori` [t]. These become the ids.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from trainer.formats.pickles import MAX_BYTES, Array, Refused, load
from trainer.graph import SPLITS, DataError, Named, Parts


def read_fede(path: Path) -> list[Parts]:
    """The named triples of each client by split; a name is a number that all clients share.

    Raises:
        DataError: The file is too large, is no such pickle, holds anything but integer arrays, or has a client without
            a triple to train on.
    """
    with path.open("rb") as file:
        body = file.read(MAX_BYTES + 1)
    if len(body) > MAX_BYTES:
        raise DataError(f"{path}: is larger than the {MAX_BYTES >> 20} MiB that are read of a pickle")
    try:
        clients = load(body)
        if not isinstance(clients, list) or not clients:
            raise Refused("it holds no list of clients")
        return [_client(i, client) for i, client in enumerate(clients)]
    except Refused as refusal:
        raise DataError(f"{path}: is no data set of FedE's that can be read: {refusal}") from refusal


def _client(number: int, client: object) -> Parts:
    if not isinstance(client, dict) or not all(isinstance(client.get(split), dict) for split in SPLITS):
        raise Refused(f"client {number} is no dict of train, valid and test")
    parts = {split: _triples(f"client {number}, {split}", client[split]) for split in SPLITS}
    if not parts["train"]:
        raise Refused(f"client {number} has no triple to train on")
    return parts


def _triples(where: str, part: dict[object, object]) -> list[Named]:
    ends, types = _array(where, part, "edge_index_ori"), _array(where, part, "edge_type_ori")
    if ends.shape != (2, *types.shape) or types.ndim != 1:
        raise Refused(f"{where}: edge_index_ori should be [2, t] and edge_type_ori [t]")
    heads, relations, tails = (list(map(str, column.tolist())) for column in (ends[0], types, ends[1]))
    return list(zip(heads, relations, tails, strict=True))


def _array(where: str, part: dict[object, object], name: str) -> NDArray[np.int64]:
    array = part.get(name)
    if not isinstance(array, Array):
        raise Refused(f"{where}: {name} is missing or no array")
    return array.numbers()
