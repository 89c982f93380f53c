import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from trainer.experiments import record
from trainer.experiments.record import Machine, write_lines
from trainer.graph import DataError

from .records import a_record, a_run, done, results_of


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_record_comes_back_and_a_run_without_one_is_not_finished(tmp_path: Path) -> None:
    assert record.read(tmp_path) is None
    kept = a_record(a_run())
    record.keep(tmp_path, kept)
    assert record.read(tmp_path) == kept


def test_a_damaged_record_names_the_file_and_the_way_out(tmp_path: Path) -> None:
    (tmp_path / "record.json").write_text("{")
    with pytest.raises(DataError, match=r"record\.json: is damaged; delete it"):
        record.read(tmp_path)


def test_there_is_a_line_for_each_run_and_mode_whatever_was_done_first(tmp_path: Path) -> None:
    runs = [a_run("t", 1), a_run("t", 0), a_run("t", 0, "collection")]
    write_lines(tmp_path / "x", "one", done(*runs))
    write_lines(tmp_path / "y", "one", reversed(done(*runs)))
    assert (tmp_path / "x").read_bytes() == (tmp_path / "y").read_bytes()
    assert [(line["mode"], line["seed"]) for line in lines(tmp_path / "x")] == [
        ("collection", 0),
        ("federation", 0),
        ("federation", 1),
        ("fusion", 0),
        ("fusion", 1),
        ("isolation", 0),
        ("isolation", 1),
    ]


def test_a_line_holds_settings_means_clients_history_and_traffic(tmp_path: Path) -> None:
    run = a_run(seed=7)
    write_lines(tmp_path / "x", "one", done(run))
    line = next(line for line in lines(tmp_path / "x") if line["mode"] == "federation")
    rows = [row for row in results_of(run) if row.mode == "federation"]
    assert line["settings"]["seed"] == line["seed"] == 7
    assert line["settings"]["local"]["batch_size"] == 64
    assert line["sides"]["tail"]["macro"]["mrr"] == pytest.approx(sum(row.sides["tail"].mrr for row in rows) / 2)
    assert [client["client"] for client in line["clients"]] == ["client_0", "client_1"]
    assert line["clients"][1]["sides"]["head"] == json.loads(rows[1].sides["head"].model_dump_json())
    assert line["training"]["history"][2]["valid"]["both"]["mrr"] > 0
    assert line["training"]["clients"][0]["sent"] == 4_000_000
    assert {"machine", "wall_seconds", "digest"} <= line.keys()


def test_code_below_the_checkout_of_something_else_has_no_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if shutil.which("git") is None:
        pytest.skip("git is not installed")
    monkeypatch.setattr(record, "__file__", str(tmp_path / "record.py"))
    names = ("-c", "user.name=a", "-c", "user.email=a@example.org")
    for command in (("init",), ("add", "record.py"), (*names, "commit", "--message", "one")):
        (tmp_path / "record.py").touch()
        assert Machine.here().git is None
        subprocess.run(["git", *command], cwd=tmp_path, check=True, capture_output=True)
    assert re.fullmatch("[0-9a-f]{40}", str(Machine.here().git))
    monkeypatch.setattr(record, "__file__", str(tmp_path / "installed.py"))
    (tmp_path / "installed.py").touch()
    assert Machine.here().git is None


def test_the_machine_says_what_ran() -> None:
    here = Machine.here()
    assert {"torch", "numpy"} <= here.packages.keys()
    assert here.cores >= 1
