import pytest

from trainer.graph import SPLITS, DataError, Graph
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


@pytest.mark.parametrize("clients", [0, 4])
def test_a_number_of_clients_that_cannot_be_dealt_to_is_refused(small: Graph, clients: int) -> None:
    assert len(small.relations) == 3
    with pytest.raises(DataError, match=f"3 relations cannot be dealt to {clients} clients"):
        deal(small, clients, seed=0)
