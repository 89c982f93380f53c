import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score

from trainer.graph import Triples
from trainer.owners import owners

CLIENTS = 4


def generator(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def random_triples(seed: int, relations: int = 30, triples: int = 2_000) -> Triples:
    """Relations of very different sizes; each occurs."""
    random = generator(seed)
    sizes = random.dirichlet(np.full(relations, 0.5))
    relation = np.concatenate([np.arange(relations), random.choice(relations, triples - relations, p=sizes)])
    ends = random.integers(0, 50, (triples, 2))
    return np.stack([ends[:, 0], relation, ends[:, 1]], 1)


@pytest.mark.parametrize("by", ["relations", "clusters"])
def test_a_relation_has_one_owner(by: str) -> None:
    triples = random_triples(0)
    owner = owners(by, triples, CLIENTS, None, generator(0))  # type: ignore[arg-type]
    assert len(np.unique(np.stack([triples[:, 1], owner], 1), axis=0)) == 30
    assert set(owner) == set(range(CLIENTS))


def test_triples_at_random_are_as_many_for_each_and_mix_relations() -> None:
    triples = random_triples(0)
    owner = owners("triples", triples, CLIENTS, None, generator(0))
    assert np.bincount(owner).tolist() == [500] * CLIENTS
    largest = owner[triples[:, 1] == np.bincount(triples[:, 1]).argmax()]
    assert np.bincount(largest, minlength=CLIENTS).min() > 0.15 * len(largest)


@pytest.mark.parametrize("seed", range(5))
def test_triples_are_cut_by_share(seed: int) -> None:
    shares = generator(seed).dirichlet(np.ones(CLIENTS))
    owner = owners("triples", random_triples(seed), CLIENTS, shares, generator(seed))
    assert np.abs(np.bincount(owner, minlength=CLIENTS) - shares * 2_000).max() <= 1


@pytest.mark.parametrize("seed", range(5))
def test_relations_go_to_whom_most_is_lacking_of_its_share(seed: int) -> None:
    triples, shares = random_triples(seed), generator(seed).dirichlet(np.ones(CLIENTS))
    owner = owners("relations", triples, CLIENTS, shares, generator(seed))
    sizes = np.bincount(triples[:, 1])
    too_many = np.bincount(owner, minlength=CLIENTS) - shares * len(triples)
    # Nobody is given a relation who has enough, so nobody has more than one relation too much.
    assert too_many.max() <= sizes.max()
    assert np.corrcoef(np.bincount(owner, minlength=CLIENTS), shares)[0, 1] > 0.7


def planted(seed: int, groups: int = 4, relations: int = 6, strangers: int = 0) -> tuple[Triples, list[int]]:
    """Relations of one group stand between entities of that group's own, but for some triples."""
    random = generator(seed)
    numbers = random.permutation(groups * relations)
    rows = []
    for place, relation in enumerate(numbers):
        first = 40 * (place // relations)
        rows += [(h, relation, t) for h, t in random.integers(first, first + 40, (60, 2))]
    total = 40 * groups
    rows += [tuple(row) for row in random.integers(0, [total, len(numbers), total], (strangers, 3))]
    group = np.empty(len(numbers), dtype=np.int64)
    group[numbers] = np.arange(len(numbers)) // relations
    return np.array(rows, dtype=np.int64), group.tolist()


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("strangers", [0, 100])
def test_clusters_are_the_relations_that_share_entities(seed: int, strangers: int) -> None:
    triples, group = planted(seed, strangers=strangers)
    owner = owners("clusters", triples, 4, None, generator(seed))
    found = [owner[triples[:, 1] == relation][0] for relation in range(len(group))]
    assert adjusted_rand_score(group, found) == 1


@pytest.mark.parametrize("clients", [1, 2, 5, 6])
def test_clusters_of_few_relations(clients: int) -> None:
    triples = np.array([(i, r, i + r + 1) for r in range(6) for i in range(r, 20)])
    owner = owners("clusters", triples, clients, None, generator(0))
    assert set(owner) == set(range(clients))
