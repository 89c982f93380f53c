import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.trainer.command_line import QUICK, well
from tests.trainer.support import Run
from trainer.graph import read_folder

SHOWN = ("mrr", "hits@1", "hits@3", "hits@5", "hits@10", "mr", "amri")


def test_train_writes_results_and_evaluate_finds_the_same(nations: Path, nations_model: Path) -> None:
    (result,) = json.loads((nations_model / "results.json").read_text())
    assert (result["interaction"], result["mode"], result["client"]) == ("distmult", "isolation", "client_0")
    assert result["triples"] == len(read_folder(nations / "client_0").triples["test"])
    assert result["sides"]["both"]["mrr"] > 0.3  # 14 candidates: 0.23 by chance
    shown = well("evaluate", nations_model, "--data", nations / "client_0")
    rows = {cells[0]: cells[1:] for line in shown.splitlines() if (cells := line.replace("│", " ").split())}
    for side in ("both", "head", "tail"):
        assert rows[side] == [f"{result['sides'][side][name]:.3f}" for name in SHOWN]
    written = json.loads(well("evaluate", nations_model, "--data", nations / "client_0", "--json"))
    assert written["sides"] == result["sides"]
    same = ("interaction", "mode", "triples", "candidates", "left_out")
    assert {name: written[name] for name in same} == {name: result[name] for name in same}
    assert (written["split"], written["tie_tolerance"]) == ("test", 0.0)


def test_a_model_is_evaluated_with_the_tolerance_that_it_was_trained_with(
    nations: Path, tmp_path: Path, here: Callable[..., Run]
) -> None:
    options = ("--tie-tolerance", "0.5", "--rounds", "1", "--dim", "4")
    assert here("train", nations / "client_0", "--out", tmp_path, *options).returncode == 0
    (result,) = json.loads((tmp_path / "results.json").read_text())
    shown = here("evaluate", tmp_path, "--data", nations / "client_0").stdout
    written = json.loads(here("evaluate", tmp_path, "--data", nations / "client_0", "--json").stdout)
    assert written["sides"] == result["sides"]
    assert written["tie_tolerance"] == 0.5
    assert written["sides"]["both"]["mrr_gap"] > 0.1
    assert "ties: MRR is up to" in shown


def test_what_stands_twice_in_the_data_is_told(nations: Path, tmp_path: Path, here: Callable[..., Run]) -> None:
    folder = tmp_path / "twice"
    shutil.copytree(nations / "client_0", folder)
    first = (folder / "train.tsv").read_text().splitlines(keepends=True)[0]
    for split in ("train", "test"):
        with (folder / f"{split}.tsv").open("a") as file:
            file.write(first)
    shown = " ".join(here("train", folder, "--out", tmp_path / "model", "--rounds", "1").stdout.split())
    assert "1 lines repeat others and count once; 1 of valid and test are in training too" in shown


def test_the_demo_names_the_extra_that_is_missing(here: Callable[..., Run], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sqlalchemy", None)
    run = here("demo")
    assert run.returncode == 2
    assert run.stderr.splitlines() == [
        "error: sqlalchemy is not installed, which this needs; install it with: pip install '.[all]'"
    ]


def test_train_pools_several_folders_and_measures_each(nations: Path, tmp_path: Path) -> None:
    folders = (nations / "client_0", nations / "client_1")
    well("train", *folders, "--out", tmp_path / "pooled", *QUICK)
    results = json.loads((tmp_path / "pooled" / "results.json").read_text())
    assert [(r["mode"], r["client"]) for r in results] == [("collection", "client_0"), ("collection", "client_1")]
    assert [r["candidates"] for r in results] == [len(read_folder(folder).entities) for folder in folders]
