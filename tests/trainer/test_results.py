import json
from pathlib import Path

import pytest
from rich.console import Console

from protocol.rounds import Metrics, Mode, SideName
from protocol.trainings import InteractionName
from trainer.results import ClientResult, read_results, rows, table, write_results

SIDES: tuple[SideName, ...] = ("both", "head", "tail")


def metrics(value: float, gap: float = 0.0) -> Metrics:
    hits = {"hits@1": value / 2, "hits@3": value, "hits@5": 0.9, "hits@10": 1}
    return Metrics.model_validate({"mrr": value, **hits, "mr": 1 / value, "amri": value, "mrr_gap": gap})


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


def test_there_is_a_row_for_each_interaction_mode_and_side() -> None:
    found = rows(RESULTS)
    keys = [(row["interaction"], row["mode"], row["side"]) for row in found]
    modes = [("transe", "fusion"), ("transe", "isolation"), ("llama", "isolation")]
    assert sorted(keys) == sorted((i, m, s) for i, m in modes for s in SIDES)


def test_a_row_holds_the_mean_under_the_names_of_papers_and_its_clients() -> None:
    (row,) = (r for r in rows(RESULTS) if (r["interaction"], r["mode"], r["side"]) == ("transe", "fusion", "both"))
    weighted = {"mrr": 0.7, "hits@1": 0.35, "hits@3": 0.7, "hits@5": 0.9, "hits@10": 1.0}
    weighted |= {"mr": (30 / 0.8 + 10 / 0.4) / 40, "amri": 0.7, "mrr_gap": 0.0}
    assert {name: row[name] for name in weighted} == pytest.approx(weighted)
    macro = {"mrr": 0.6, "hits@1": 0.3, "hits@3": 0.6, "hits@5": 0.9, "hits@10": 1.0}
    assert row["macro"] == pytest.approx(macro | {"mr": (1 / 0.8 + 1 / 0.4) / 2, "amri": 0.6, "mrr_gap": 0.0})
    assert (row["split"], row["ranks"], row["weights"]) == ("test", "filtered, realistic", "test triples")
    first = {"client": "a", "triples": 10, "candidates": 50, "left_out": 2}
    assert row["clients"][0] == first | metrics(0.4).model_dump()
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


def printed(results: list[ClientResult]) -> str:
    console = Console(width=80)
    with console.capture() as capture:
        console.print(table(results, "umls, 2 clients"))
    return capture.get()


def test_the_table_shows_both_sides_in_the_order_of_modes_and_names_its_protocol() -> None:
    shown = printed(RESULTS)
    lines = [line.replace("│", " ").split() for line in shown.splitlines()]
    cells = [line for line in lines if line and line[0] in ("transe", "llama")]
    assert cells == [
        ["transe", "isolation", "0.200", "0.100", "0.200", "0.900", "1.000"],
        ["transe", "fusion", "0.700", "0.350", "0.700", "0.900", "1.000"],
        ["llama", "isolation", "0.500", "0.250", "0.500", "0.900", "1.000"],
    ]
    for word in ("umls, 2 clients", "MRR", "Hits@5", "Hits@10", "filtered", "realistic", "test triples"):
        assert word in shown
    assert "ties: " not in shown


def test_ties_are_told_under_the_table_where_there_are_some() -> None:
    level = RESULTS[0].model_copy(update={"sides": {"both": metrics(0.8, gap=0.0234)}})
    assert "ties: MRR is up to 0.023 higher" in printed([level, *RESULTS[1:]])


def test_no_results_make_an_empty_table() -> None:
    assert table([], "nothing").row_count == 0
    assert rows([]) == []
