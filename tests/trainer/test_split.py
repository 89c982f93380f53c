import hashlib
import json
import math

import pytest

from trainer.graph import SPLITS, DataError, Graph
from trainer.owners import By
from trainer.split import deal

from .support import random_graph


@pytest.mark.parametrize("clients", [1, 3, 46])
def test_every_triple_is_dealt_once(umls: Graph, clients: int) -> None:
    parts = deal(umls, clients, seed=0)
    assert len(parts) == clients
    dealt = [triple for part in parts for split in SPLITS for triple in part[split]]
    assert sorted(dealt) == sorted({triple for split in SPLITS for triple in umls.named(split)})


def test_every_relation_belongs_to_one_client_and_clients_get_alike_many(umls: Graph) -> None:
    parts = deal(umls, 3, seed=0)
    relations = [{r for split in SPLITS for _, r, _ in part[split]} for part in parts]
    assert sum(map(len, relations)) == len(set.union(*relations)) == 46
    assert {len(own) for own in relations} == {15, 16}


def test_the_parts_are_80_10_10_but_for_what_training_must_keep(umls: Graph) -> None:
    for part in deal(umls, 3, seed=0):
        total = sum(len(part[split]) for split in SPLITS)
        assert 0.8 * total - 1 <= len(part["train"]) <= 0.85 * total
        for split in ("valid", "test"):
            assert 0.07 * total <= len(part[split]) <= 0.1 * total + 1


@pytest.mark.parametrize("seed", range(5))
def test_all_that_is_held_out_has_been_seen_in_training(seed: int) -> None:
    # Sparse, so that many a held-out triple names something rare.
    sparse = random_graph(seed, entities=60, relations=6, triples=80)
    for part in deal(sparse, 3, seed):
        assert set(Graph.from_names(part).left_out.values()) == {0}


def test_the_same_seed_deals_the_same_and_another_does_not(umls: Graph) -> None:
    assert deal(umls, 3, seed=5) == deal(umls, 3, seed=5)
    assert deal(umls, 3, seed=5) != deal(umls, 3, seed=6)


def test_the_default_deals_as_it_always_has(umls: Graph) -> None:
    dealt = hashlib.sha256(json.dumps(deal(umls, 3, seed=0)).encode()).hexdigest()
    assert dealt == "243c6ebd91657bd6c7a7c827e551c09fc2dce071e7a50c5778aec78e84b3f74f"


def test_sites_that_share_a_key_put_equal_triples_to_the_same_use() -> None:
    whole = random_graph(7, entities=50, relations=4, triples=4000)
    triples = sorted({triple for split in SPLITS for triple in whole.named(split)})
    key, where = b"a key that the clients share", {}
    # Two sites that hold two thirds each, in different orders.
    for held in (triples[: len(triples) * 2 // 3], triples[: len(triples) // 3 : -1]):
        (part,) = deal(Graph.from_names({"train": held}), 1, seed=len(where), shared_key=key)
        assert sorted(triple for split in SPLITS for triple in part[split]) == sorted(held)
        for split, share in zip(SPLITS, (0.8, 0.1, 0.1), strict=True):
            assert len(part[split]) == pytest.approx(share * len(held), rel=0.25)
            for triple in part[split]:
                assert where.setdefault(triple, split) == split
    assert len(where) == len(triples)
    (other,) = deal(Graph.from_names({"train": triples}), 1, seed=0, shared_key=b"another key of the clients")
    assert any(where[triple] != "test" for triple in other["test"])


@pytest.mark.parametrize("by", ["relations", "clusters"])
def test_more_clients_than_relations_are_refused(small: Graph, by: By) -> None:
    assert len(small.relations) == 3
    with pytest.raises(DataError, match="3 relations cannot be dealt to 4 clients"):
        deal(small, 4, 0, by)


def test_no_client_is_refused(small: Graph) -> None:
    with pytest.raises(DataError, match="cannot be dealt to 0 clients"):
        deal(small, 0, seed=0)


@pytest.mark.parametrize(("by", "skew"), [("triples", None), ("clusters", None), ("triples", 2.0), ("relations", 2.0)])
def test_every_way_deals_every_triple_once_and_the_same_seed_alike(umls: Graph, by: By, skew: float | None) -> None:
    parts = deal(umls, 3, 1, by, skew)
    dealt = [triple for part in parts for split in SPLITS for triple in part[split]]
    assert sorted(dealt) == sorted({triple for split in SPLITS for triple in umls.named(split)})
    assert parts == deal(umls, 3, 1, by, skew)
    assert parts != deal(umls, 3, 2, by, skew)
    assert all(set(Graph.from_names(part).left_out.values()) == {0} for part in parts)


def test_a_client_that_could_not_be_measured_is_refused(umls: Graph) -> None:
    with pytest.raises(DataError, match=r"client_\d would get \d+ triples, and none of them for (train|valid|test)"):
        deal(umls, 10, 0, "triples", skew=0.01)


@pytest.mark.parametrize("skew", [0.0, -1.0, math.inf, math.nan])
def test_a_concentration_that_is_none_is_refused(umls: Graph, skew: float) -> None:
    with pytest.raises(DataError, match="is no concentration"):
        deal(umls, 3, 0, "triples", skew)


def test_clusters_have_sizes_of_their_own(umls: Graph) -> None:
    with pytest.raises(DataError, match="skew: clusters are as large as the graph makes them"):
        deal(umls, 3, 0, "clusters", skew=1.0)
