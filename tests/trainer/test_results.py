import json
from pathlib import Path

import pytest
from rich.console import Console

from protocol.rounds import Metrics, Mode, SideName
from protocol.trainings import InteractionName
from trainer.results import ClientResult, read_results, rows, table, weighted_mean, write_results

SIDES: tuple[SideName, ...] = ("both", "head", "tail")


def metrics(value: float) -> Metrics:
    return Metrics(mrr=value, hits_at_1=value / 2, hits_at_3=value, hits_at_10=1)


def result(interaction: InteractionName, mode: Mode, client: str, triples: int, value: float) -> ClientResult:
    sides = {side: metrics(value / (1 + i)) for i, side in enumerate(SIDES)}
    return ClientResult(
        interaction=interaction, mode=mode, client=client, triples=triples, candidates=50, left_out=2, sides=sides
    )


RESULTS = [
    result("transe", "fusion", "b", 30, 0.8),
    result("transe", "fusion", "a", 10, 0.4),
    result("transe", "isolation", "a", 10, 0.2),
    result("llama", "isolation", "a", 10, 0.5),
]


def test_the_mean_is_weighted_by_triples() -> None:
    mean = weighted_mean([metrics(0.8), metrics(0.4)], [30, 10])
    assert mean.model_dump() == pytest.approx({"mrr": 0.7, "hits@1": 0.35, "hits@3": 0.7, "hits@10": 1.0})


def test_a_mean_of_perfect_clients_is_still_valid() -> None:
    weights = [3, 7, 661, 1]
    assert weighted_mean([metrics(1.0)] * 4, weights).mrr == 1.0


def test_there_is_a_row_for_each_interaction_mode_and_side() -> None:
    found = rows(RESULTS)
    keys = [(row["interaction"], row["mode"], row["side"]) for row in found]
    modes = [("transe", "fusion"), ("transe", "isolation"), ("llama", "isolation")]
    assert sorted(keys) == sorted((i, m, s) for i, m in modes for s in SIDES)


def test_a_row_holds_the_mean_under_the_names_of_papers_and_its_clients() -> None:
    (row,) = (r for r in rows(RESULTS) if (r["interaction"], r["mode"], r["side"]) == ("transe", "fusion", "both"))
    assert {"interaction", "mode", "mrr", "hits@1", "hits@3", "hits@10", "side", "clients"} <= row.keys()
    assert row["mrr"] == pytest.approx(0.7)
    assert (row["split"], row["ranks"], row["weights"]) == ("test", "filtered, realistic", "test triples")
    first = {"client": "a", "triples": 10, "candidates": 50, "left_out": 2}
    assert row["clients"][0] == first | {"mrr": 0.4, "hits@1": 0.2, "hits@3": 0.4, "hits@10": 1.0}
    assert [client["client"] for client in row["clients"]] == ["a", "b"]
    assert json.loads(json.dumps(row)) == row


def test_the_side_rows_hold_that_sides_metrics() -> None:
    values = {row["side"]: row["mrr"] for row in rows(RESULTS[2:3])}
    assert values == pytest.approx({"both": 0.2, "head": 0.1, "tail": 0.2 / 3})


def test_results_come_back_from_their_file(tmp_path: Path) -> None:
    path = tmp_path / "new" / "results.json"
    write_results(path, RESULTS)
    assert read_results(path) == RESULTS
    assert json.loads(path.read_text())[0]["sides"]["both"]["hits@10"] == 1.0
    assert [file.name for file in path.parent.iterdir()] == ["results.json"]


def test_the_table_shows_both_sides_in_the_order_of_modes_and_names_its_protocol() -> None:
    console = Console(width=120)
    with console.capture() as capture:
        console.print(table(RESULTS, "umls, 2 clients"))
    shown = capture.get()
    lines = [line.replace("│", " ").split() for line in shown.splitlines()]
    cells = [line for line in lines if line and line[0] in ("transe", "llama")]
    assert cells == [
        ["transe", "isolation", "0.200", "0.100", "0.200", "1.000"],
        ["transe", "fusion", "0.700", "0.350", "0.700", "1.000"],
        ["llama", "isolation", "0.500", "0.250", "0.500", "1.000"],
    ]
    for word in ("umls, 2 clients", "MRR", "Hits@10", "filtered", "realistic", "test triples"):
        assert word in shown


def test_no_results_make_an_empty_table() -> None:
    assert table([], "nothing").row_count == 0
    assert rows([]) == []
