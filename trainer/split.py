"""Deal one graph to several clients, and split each one's triples again, 80/10/10.

A triple of valid or test whose entity or relation training would lack goes to training, so that everything ranked has
been seen.

Sites that each split their own graph may hold some of the same triples. What one of them tests must not be what another
trains on, so they can split by a key that they share: it says of each triple where it goes, everywhere the same.
"""

import hashlib
import hmac
import math
from bisect import bisect
from collections.abc import Sequence
from itertools import accumulate

import numpy as np

from trainer.graph import SPLITS, DataError, Graph, Named, Parts
from trainer.owners import By, owners

RATIOS = (0.8, 0.1, 0.1)
_TRIPLE = b"triple\x00"
"""So that no entity's or relation's key on the wire (`protocol.keys`) tells where a triple goes."""


def deal(
    graph: Graph,
    clients: int,
    seed: int,
    by: By = "relations",
    skew: float | None = None,
    shared_key: bytes | None = None,
) -> list[Parts]:
    """The named triples of each client by split; the same seed deals the same.

    All of the graph's triples are pooled first: the parts are new, and hold some of its test triples in training.

    Args:
        graph: What is dealt.
        clients: To how many.
        seed: Of every random choice.
        by: What stays together; `relations`, at random, is FedE's way.
        skew: Concentration of the symmetric Dirichlet distribution that the clients' shares of the triples are drawn
            from (https://arxiv.org/abs/2102.02079, "quantity skew"): the smaller, the more unequal. None is the same
            for all.
        shared_key: Where it is given, says in place of the seed which of a client's triples are for what: by
            HMAC-SHA256(shared key, triple), so that equal triples of different graphs fall alike.

    Raises:
        DataError: There are too few relations or triples for so many clients, or clusters are to be skewed.
    """
    if clients < 1:
        raise DataError(f"a graph cannot be dealt to {clients} clients; give at least one")
    if skew is not None and not (skew > 0 and math.isfinite(skew)):
        raise DataError(f"skew: {skew} is no concentration; give a number above 0, such as 0.5")
    if skew is not None and by == "clusters":
        raise DataError("skew: clusters are as large as the graph makes them; deal by relations or triples instead")
    generator = np.random.default_rng(seed)
    shares = None if skew is None else generator.dirichlet(np.full(clients, skew))
    triples = np.unique(np.concatenate([graph.triples[split] for split in SPLITS]), axis=0)
    owner = owners(by, triples, clients, shares, generator)
    owned = [graph.words(triples[owner == client]) for client in range(clients)]
    held = [_by_chance(own, generator) if shared_key is None else _by_key(own, shared_key) for own in owned]
    parts = [_seen_in_training(*split) for split in held]
    if by != "relations" or skew is not None:
        _check_all_can_be_measured(parts)
    return parts


def _check_all_can_be_measured(parts: list[Parts]) -> None:
    for client, part in enumerate(parts):
        if empty := [split for split in SPLITS if not part[split]]:
            raise DataError(
                f"client_{client} would get {sum(map(len, part.values()))} triples, and none of them for {empty[0]}; "
                "deal to fewer clients, with less skew, or with another seed"
            )


def _by_chance(triples: list[Named], generator: np.random.Generator) -> list[list[Named]]:
    shuffled = [triples[i] for i in generator.permutation(len(triples))]
    first, second, _ = np.round(np.cumsum(RATIOS) * len(shuffled)).astype(int)
    return [shuffled[:first], shuffled[first:second], shuffled[second:]]


def _by_key(triples: list[Named], shared_key: bytes) -> list[list[Named]]:
    ends = list(accumulate(RATIOS))[:-1]
    split: list[list[Named]] = [[] for _ in RATIOS]
    for triple in triples:
        digest = hmac.digest(shared_key, _TRIPLE + "\t".join(triple).encode(), hashlib.sha256)
        place = int.from_bytes(digest[:6], "big") / (1 << 48)
        split[bisect(ends, place)].append(triple)
    return split


def _seen_in_training(train: list[Named], valid: Sequence[Named], test: Sequence[Named]) -> Parts:
    held_out = {"valid": valid, "test": test}
    seen = {name for h, r, t in train for name in (("e", h), ("r", r), ("e", t))}
    parts: Parts = {"train": train}
    for split, rows in held_out.items():
        parts[split] = []
        for h, r, t in rows:
            names = {("e", h), ("r", r), ("e", t)}
            (parts[split] if names <= seen else train).append((h, r, t))
            seen |= names
    return parts
