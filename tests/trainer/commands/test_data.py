import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.trainer.support import Run
from trainer.graph import Graph, read_folder

Here = Callable[..., Run]


def well(run: Run) -> str:
    assert run.returncode == 0, run.stderr
    return run.stdout


def test_an_export_is_dealt_by_the_columns_of_its_header(umls: Graph, tmp_path: Path, here: Here) -> None:
    triples = umls.named("train")
    lines = [f'{t},2024,{r},"{h}"' for h, r, t in triples]
    (tmp_path / "export.csv").write_text("\n".join(["object,year,predicate,subject", *lines]))
    (tmp_path / "entities.tsv").write_text("virus\tVirus\tAn agent.\n")
    choice = ("--columns", "subject,predicate,object", "--by", "clusters")
    shown = well(here("split", tmp_path / "export.csv", "--out", tmp_path / "dealt", *choice))
    graphs = [read_folder(tmp_path / "dealt" / f"client_{i}") for i in range(3)]
    dealt = [triple for graph in graphs for split in graph.triples for triple in graph.named(split)]
    assert sorted(dealt) == sorted(triples)
    for i, graph in enumerate(graphs):
        assert ("virus" in graph.entities) == (tmp_path / "dealt" / f"client_{i}" / "entities.tsv").exists()
    statistics = json.loads((tmp_path / "dealt" / "statistics.json").read_text())
    assert (statistics["by"], statistics["clients"]["client_1"]["entities"]) == ("clusters", len(graphs[1].entities))
    (total,) = [line.replace("│", " ").split() for line in shown.splitlines() if "total" in line]
    assert [int(n) for n in total[-3:]] == [sum(len(g.triples[s]) for g in graphs) for s in ("train", "valid", "test")]


def test_the_same_seed_writes_the_same_files(tmp_path: Path, here: Here) -> None:
    for by, skew in (("relations", ()), ("triples", ("--skew", "2")), ("clusters", ())):
        for out in ("one", "two"):
            well(here("split", "umls", "--seed", "1", "--by", by, *skew, "--out", tmp_path / by / out))
        files = sorted(path.relative_to(tmp_path / by / "one") for path in (tmp_path / by / "one").rglob("*.*"))
        assert len(files) == 10
        for file in files:
            assert (tmp_path / by / "one" / file).read_bytes() == (tmp_path / by / "two" / file).read_bytes()


def test_fedes_data_become_folders_to_join_with(tmp_path: Path, here: Here) -> None:
    def arrays(*triples: tuple[int, int, int]) -> dict[str, np.ndarray]:
        rows = np.array(triples)
        return {"edge_index_ori": rows[:, [0, 2]].T, "edge_type_ori": rows[:, 1]}

    client = {"train": arrays((14, 0, 9), (9, 3, 14)), "valid": arrays((14, 3, 9)), "test": arrays((9, 0, 14))}
    (tmp_path / "fed.pkl").write_bytes(pickle.dumps([client, client]))
    shown = well(here("convert", tmp_path / "fed.pkl", "--out", tmp_path / "out"))
    assert "2 (100%)" in shown
    for name in ("client_0", "client_1"):
        graph = read_folder(tmp_path / "out" / name)
        assert graph.named("train") == [("14", "0", "9"), ("9", "3", "14")]
        assert graph.named("test") == [("9", "0", "14")]


class Canary:
    def __init__(self, spot: Path) -> None:
        self.spot = spot

    def __reduce__(self) -> tuple[object, ...]:
        return os.system, (f"touch {self.spot}",)


def test_a_hostile_pickle_is_one_line_and_runs_nothing(tmp_path: Path, here: Here) -> None:
    (tmp_path / "evil.pkl").write_bytes(pickle.dumps([{"train": Canary(tmp_path / "canary")}]))
    run = here("convert", tmp_path / "evil.pkl", "--out", tmp_path / "out")
    assert run.returncode == 2
    (line,) = run.stderr.splitlines()
    assert line.endswith("it names 'posix.system', which integer arrays do not need")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["evil.pkl"]


@pytest.mark.parametrize("choice", [("--columns", "1,2"), ("--by", "entities"), ("--skew", "much")])
def test_choices_that_are_none_show_the_usage(tmp_path: Path, choice: tuple[str, str], here: Here) -> None:
    run = here("split", "umls", "--out", tmp_path / "out", *choice)
    assert run.returncode == 2
    assert choice[0] in run.stderr
    assert not (tmp_path / "out").exists()
