"""The tables of docs/results.md are what docs/results.csv, with every run, comes to."""

import re
import statistics
from collections import defaultdict

import pytest

from tools.committed import ROOT
from tools.results import read

PAGE = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
TABLES = {
    "The small interactions on UMLS": "umls-fed3",
    "The small interactions on CoDEx-S": "codex-s-fed3",
    "The LLaMA on UMLS": "llama-umls-fed3",
}
METRICS = ("mrr", "hits@1", "hits@3", "hits@5", "hits@10")


@pytest.fixture(scope="module")
def measured() -> dict[tuple[str, str, str], list[dict[str, str]]]:
    """By experiment, variant and mode, the rows of all seeds: weighted means of both sides."""
    found = defaultdict(list)
    for row in read():
        if (row["of"], row["side"]) == ("weighted", "both"):
            found[row["experiment"], row["variant"], row["mode"]].append(row)
    return found


@pytest.mark.parametrize(("title", "experiment"), TABLES.items())
def test_a_table_of_means_is_that_of_its_runs(
    measured: dict[tuple[str, str, str], list[dict[str, str]]], title: str, experiment: str
) -> None:
    section = PAGE.split(f"\n## {title}\n")[1].split("\n## ")[0].replace("**", "")
    rows = re.findall(r"^\| (\S+) \| (\w+) \| (.* ± .*) \|$", section, re.MULTILINE)
    assert {(experiment, variant, mode) for variant, mode, _ in rows} == {
        key for key in measured if key[0] == experiment
    }
    for variant, mode, cells in rows:
        runs = measured[experiment, variant, mode]
        assert len(runs) == 3
        for name, cell in zip(METRICS, cells.split(" | "), strict=True):
            values = [float(run[name]) for run in runs]
            mean, deviation = map(float, cell.split(" ± "))
            assert mean == pytest.approx(statistics.mean(values), abs=6e-4)
            assert deviation == pytest.approx(statistics.stdev(values), abs=6e-4)


def test_weighted_means_are_those_of_the_clients() -> None:
    runs = defaultdict(dict)
    for row in read():
        runs[tuple(row[name] for name in ("experiment", "data", "variant", "mode", "seed", "side"))][row["of"]] = row
    for found in runs.values():
        weighted, macro = found.pop("weighted"), found.pop("macro")
        triples = [int(row["triples"]) for row in found.values()]
        for name in METRICS:
            values = [float(row[name]) for row in found.values()]
            mean = sum(t * value for t, value in zip(triples, values, strict=True)) / sum(triples)
            assert float(weighted[name]) == pytest.approx(mean, abs=2e-5)
            assert float(macro[name]) == pytest.approx(statistics.mean(values), abs=2e-5)
