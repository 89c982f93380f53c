"""`tripleherd experiment`, small, as a user runs it: undisturbed, killed and taken up again, with a run that fails."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.system.commands import commands_mentioning, wait_for_a_client
from trainer.dataset import read_dataset
from trainer.graph import write_folder
from trainer.processes import free_port
from trainer.split import deal

pytest.importorskip("matplotlib", reason="matplotlib is not installed")
pytest.importorskip("tensorboard", reason="tensorboard is not installed")

TWO = """\
name: two
data:
  umls-2: {folder: umls-2}
defaults: {dim: 8, rounds: 6, evaluate_every: 2, local: {local_epochs: 1}}
variants:
  transe: {interaction: transe}
  distmult_x: {interaction: distmult, fraction: 0.5}
modes: [isolation, federation, fusion]
"""
SAME = ("table.md", "table.tex", "plots/mrr-by-round.svg", "plots/mrr-by-client.svg")
"""What two experiments with the same file have byte for byte in common."""


def start(file: Path, out: Path, *options: str, errors: int = subprocess.STDOUT) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "trainer", "experiment", str(file), "--out", str(out), *options]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "150"}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True, env=environment)


def ended(process: subprocess.Popen[str]) -> str:
    said, _ = process.communicate(timeout=200)
    return said


def lines(out: Path) -> list[dict]:
    return [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("experiment")
    for i, parts in enumerate(deal(read_dataset("umls"), 2, seed=0)):
        write_folder(folder / "umls-2" / f"client_{i}", parts)
    (folder / "two.yaml").write_text(TWO)
    return folder / "two.yaml"


@pytest.fixture(scope="module")
def undisturbed(file: Path) -> Path:
    out = file.parent / "undisturbed"
    process = start(file, out)
    said = ended(process)
    assert process.returncode == 0, said
    assert "2 of 2 runs done" not in said.splitlines()[0]
    return out


def test_an_experiment_writes_tables_figures_lines_and_logs(undisturbed: Path) -> None:
    table = (undisturbed / "table.md").read_text()
    for mode in ("isolation", "federation", "fusion"):
        assert table.count(f"| umls-2 | transe | {mode} | 1 |") == 2  # both sides; tails alone
        assert table.count(rf"| umls-2 | distmult\_x | {mode} | client\_1 |") == 1
    assert r"distmult\_x & fusion" in (undisturbed / "table.tex").read_text()
    for line in lines(undisturbed):
        assert line["training"]["rounds"] == 6
        assert len([each for each in line["training"]["history"] if each["valid"]]) == 3
        sent = [client["sent"] for client in line["training"]["clients"]]
        # float32 rows of 8 columns and a header; who is drawn for a round sends one update.
        rounds = 3 if line["variant"] == "distmult_x" else 6
        entities = [client["entities"] for client in line["training"]["clients"]]
        assert sum(sent) == pytest.approx(rounds * 4 * 8 * sum(entities), rel=0.15)
        assert (line["begun"], line["machine"]["cores"] > 0) == (1, True)
    assert len(list((undisturbed / "tensorboard").iterdir())) == 2
    assert len(list((undisturbed / "plots").iterdir())) == 8
    assert commands_mentioning(str(undisturbed)) == []


def test_killed_and_taken_up_again_it_ends_with_the_same_table(file: Path, undisturbed: Path) -> None:
    out = file.parent / "killed"
    process = start(file, out, "--jobs", "2")
    deadline = time.monotonic() + 120
    while not list(out.glob("runs/*/homes/*/*/*/own-3.safetensors")):  # in the middle of a training
        assert process.poll() is None, ended(process)
        assert time.monotonic() < deadline, "round 3 was not reached"
        time.sleep(0.02)
    process.kill()
    ended(process)
    while commands_mentioning(str(out)):
        assert time.monotonic() < deadline, "its processes live on"
        time.sleep(0.05)
    (half,) = out.glob("runs/*-transe-*")
    (half / "error.txt").write_text("of a time before")
    again = start(file, out)
    said = ended(again)
    assert again.returncode == 0, said
    assert sorted(line["begun"] for line in lines(out) if line["mode"] == "fusion") == [1, 2]
    assert not (half / "error.txt").exists()
    for name in SAME:
        assert (out / name).read_bytes() == (undisturbed / name).read_bytes(), name


@pytest.mark.parametrize("mode", ["isolation", "federation"])
def test_what_is_done_is_not_run_again_and_another_setting_is(file: Path, undisturbed: Path, mode: str) -> None:
    before = {path: path.stat().st_mtime_ns for path in undisturbed.glob("runs/*/record.json")}
    only = file.parent / "only.yaml"
    # One mode alone, of the variant that is done: a run of its own that trains the same, and nothing else.
    only.write_text(TWO.replace("isolation, federation, fusion", mode).replace("  distmult_x:", "  # "))
    process = start(only, undisturbed)
    said = ended(process)
    assert process.returncode == 0, said
    assert {path: path.stat().st_mtime_ns for path in before} == before
    (made,) = set(undisturbed.glob("runs/*/record.json")) - set(before)
    (federated,) = [path for path in before if "-transe-" in str(path) and "-federated-" in str(path)]
    assert {path.parent.name for path in made.parent.glob("homes/**/model.json")} <= {"federation"}
    assert (made.parent / "coordinator").exists() == (mode == "federation")
    alone, beside = (
        {row["client"]: row["sides"] for row in json.loads(path.read_text())["results"] if row["mode"] == mode}
        for path in (made, federated)
    )
    assert alone == beside


def test_programs_read_what_is_done(file: Path, undisturbed: Path) -> None:
    read = json.loads(ended(start(file, undisturbed, "--json", errors=subprocess.DEVNULL)))
    done = [f"umls-2 {variant} seed 0 federated" for variant in ("transe", "distmult_x")]
    assert read == {"out": str(undisturbed), "done": done, "failed": {}, "unlogged": []}


def test_ctrl_c_stops_every_process_and_says_how_to_go_on(file: Path) -> None:
    out = file.parent / "stopped"
    process = start(file, out)
    wait_for_a_client(process, out)
    process.send_signal(signal.SIGINT)
    said = ended(process)
    assert process.returncode == 130
    assert "stopped, and every process with it; the same command goes on" in said
    assert "Traceback" not in said
    assert commands_mentioning(str(out)) == []


def test_a_scorer_that_does_not_answer_is_told_while_it_is_waited_for(file: Path) -> None:
    address = f"http://127.0.0.1:{free_port()}"
    described = TWO.replace("{interaction: transe}", "{interaction: llama}") + f"scorer: {{address: {address}}}\n"
    (file.parent / "waits.yaml").write_text(described)
    process = start(file.parent / "waits.yaml", file.parent / "waits")
    assert process.stdout is not None
    assert address in process.stdout.readline()
    process.send_signal(signal.SIGINT)
    ended(process)
    assert process.returncode == 130


def test_a_run_that_fails_is_listed_and_the_others_go_on(file: Path) -> None:
    hasty = "{interaction: distmult, deadline_seconds: 0.001, attempts: 1}"
    described = TWO.replace("[isolation, federation, fusion]", "[federation]").replace("rounds: 6", "rounds: 2")
    (file.parent / "fails.yaml").write_text(described.replace("{interaction: distmult, fraction: 0.5}", hasty))
    out = file.parent / "fails"
    process = start(file.parent / "fails.yaml", out)
    said = ended(process)
    assert process.returncode == 1, said
    assert "umls-2 transe seed 0 federation: done" in said
    listed = said.split("failed: umls-2 distmult_x seed 0 federation (the same command tries again):")[1]
    assert "the training is paused: " in listed
    assert {line["variant"] for line in lines(out)} == {"transe"}
    (error,) = out.glob("runs/*/error.txt")
    assert "distmult_x" in error.parent.name
    assert commands_mentioning(str(out)) == []


def test_two_experiments_do_not_share_a_folder_and_a_wrong_setting_runs_nothing(file: Path, tmp_path: Path) -> None:
    from filelock import FileLock

    out = tmp_path / "out"
    out.mkdir()
    with FileLock(out / ".lock"):
        process = start(file, out)
        assert f"error: {out}: an experiment is running there" in ended(process)
    assert process.returncode == 2
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text(TWO.replace("rounds", "ronds"))
    process = start(wrong, out)
    assert f"error: {wrong}:4: defaults.ronds: there is no such setting" in ended(process)
    assert process.returncode == 2
    assert [path.name for path in out.iterdir()] == [".lock"]
