import pytest

from trainer.statistics import Origin, Statistics

CLIENTS = {
    "client_0": {"train": [("a", "r", "b"), ("b", "r", "c")], "valid": [("c", "r", "a")], "test": []},
    "client_1": {"train": [("b", "s", "d"), ("d", "r", "e")], "valid": [], "test": [("e", "s", "b")]},
    "client_2": {"train": [("f", "u", "b")], "valid": [], "test": []},
}


@pytest.fixture
def statistics() -> Statistics:
    return Statistics.of(CLIENTS, Origin(source="toy", by="triples", seed=3))


def test_sizes_of_each_client_and_of_all(statistics: Statistics) -> None:
    found = {name: s.model_dump() for name, s in [*statistics.clients.items(), ("total", statistics.total)]}
    sizes = ("relations", "entities", "shared_entities", "own_entities", "shared_relations")
    assert {name: tuple(each[size] for size in sizes) for name, each in found.items()} == {
        "client_0": (1, 3, 1, 2, 1),  # a, b, c; b is shared
        "client_1": (2, 3, 1, 2, 1),  # b, d, e
        "client_2": (1, 2, 1, 1, 0),  # b, f
        "total": (3, 6, 1, 5, 1),
    }
    assert statistics.clients["client_0"].triples == {"train": 2, "valid": 1, "test": 0}
    assert statistics.total.triples == {"train": 5, "valid": 1, "test": 1}
    assert statistics.total.shared_entities_part == pytest.approx(1 / 6)


def test_overlap_says_what_each_two_clients_hold(statistics: Statistics) -> None:
    assert statistics.entity_overlap == [[3, 1, 1], [1, 3, 1], [1, 1, 2]]


def test_where_the_triples_come_from_is_said(statistics: Statistics) -> None:
    said = statistics.model_dump()
    assert {name: said[name] for name in ("source", "by", "skew", "seed")} == {
        "source": "toy",
        "by": "triples",
        "skew": None,
        "seed": 3,
    }
    assert said["version"]


def test_the_table_has_a_row_a_client_and_one_of_all(statistics: Statistics) -> None:
    columns = {str(column.header): list(column.cells) for column in statistics.table().columns}
    assert columns["client"] == ["client_0", "client_1", "client_2", "total"]
    assert columns["shared"] == ["1 (33%)", "1 (33%)", "1 (50%)", "1 (17%)"]
    assert columns["train"] == ["2", "2", "1", "5"]
