import statistics

from protocol.rounds import Metrics
from trainer.experiments.sheets import Cell
from trainer.experiments.tables import sheets
from trainer.results import COLUMNS

from .records import a_record, a_run, done, results_of

RUNS = [a_run("t", seed) for seed in (0, 1)] + [a_run("t", 0, "collection"), a_run("u", 0, data="other")]


def test_a_row_shows_mean_and_deviation_over_seeds_of_each_column() -> None:
    both, tail, _ = sheets("one", done(*RUNS))
    for sheet, side in ((both, "both"), (tail, "tail")):
        row = next(r for r in sheet.sections[0] if r[2].text == "fusion")
        assert [cell.text for cell in row[:4]] == ["umls", "t", "fusion", "2"]
        for cell, column in zip(row[4:], COLUMNS, strict=True):
            seeds = []
            for run in RUNS[:2]:
                rows = [r for r in results_of(run) if r.mode == "fusion"]
                mean = Metrics.mean([r.sides[side] for r in rows], [r.triples for r in rows])
                seeds.append(mean.model_dump()[column])
            assert cell.text == f"{statistics.mean(seeds):.3f} ± {statistics.stdev(seeds):.3f}"


def test_one_seed_has_no_deviation() -> None:
    both = sheets("one", done(*RUNS))[0]
    row = next(r for r in both.sections[0] if r[2].text == "collection")
    assert row[3].text == "1"
    assert "±" not in row[4].text


def test_the_best_of_each_data_set_and_column_is_bold() -> None:
    both = sheets("one", done(*RUNS))[0]
    assert [section[0][0].text for section in both.sections] == ["umls", "other"]
    for section in both.sections:
        for column in range(4, 4 + len(COLUMNS)):
            shown = [float(row[column].text.split()[0]) for row in section]
            bold = [row[column].bold for row in section]
            assert bold == [value == max(shown) for value in shown]


def test_each_client_has_a_row_of_its_own() -> None:
    clients = sheets("one", done(*RUNS))[2]
    rows = [row for section in clients.sections for row in section]
    assert len(rows) == 2 * (4 + 3)
    record = a_record(RUNS[3])
    result = next(r for r in record.results if (r.mode, r.client) == ("federation", "client_1"))
    cells = next(r for r in rows if [c.text for c in r[:4]] == ["other", "u", "federation", "client_1"])
    assert cells[5:7] == [Cell(str(result.triples)), Cell(f"{result.sides['both'].mrr:.3f}")]


def test_captions_name_the_protocol() -> None:
    for sheet in sheets("one", done(*RUNS)):
        for word in ("one", "filtered", "realistic", "training graph", "Test triples", "standard deviation over seeds"):
            assert word in sheet.caption
    both, tail, _ = sheets("one", done(*RUNS))
    assert "heads and of tails" in both.caption
    assert "tails alone, as FedE publishes" in tail.caption
    assert "weighted by their test triples" in both.caption


def test_nothing_done_makes_empty_tables() -> None:
    assert [list(sheet.sections) for sheet in sheets("one", [])] == [[], [], []]
    assert "\\bottomrule" in sheets("one", [])[0].latex()
