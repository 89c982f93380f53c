"""`tripleherd demo`, small, as a user runs it."""

import json
import signal
import subprocess
import sys
from pathlib import Path

from tests.system.commands import commands_mentioning, wait_for_a_client

COMMAND = [sys.executable, "-m", "trainer", "demo", "--clients", "2", "--rounds", "2", "--interaction"]
MODES = {"isolation", "collection", "federation", "fusion"}


def test_demo_prints_the_table_and_writes_results(tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = subprocess.run([*COMMAND, "distmult", "--out", str(out)], capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = json.loads((out / "results.json").read_text())
    assert {(row["interaction"], row["mode"], row["side"]) for row in rows} == {
        ("distmult", mode, side) for mode in MODES for side in ("both", "head", "tail")
    }
    for row in rows:
        weights = [client["triples"] for client in row["clients"]]
        for metric in ("mrr", "hits@1", "hits@3", "hits@5", "hits@10"):
            mean = sum(w * c[metric] for w, c in zip(weights, row["clients"], strict=True)) / sum(weights)
            assert abs(mean - row[metric]) < 1e-9
            assert f"{row[metric]:.3f}" in done.stdout or row["side"] != "both"
    assert commands_mentioning(str(out)) == []


def test_ctrl_c_stops_every_process(tmp_path: Path) -> None:
    out = tmp_path / "out"
    process = subprocess.Popen([*COMMAND, "llama", "--out", str(out)], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    wait_for_a_client(process, out)
    process.send_signal(signal.SIGINT)
    words, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    assert b"stopped, and every process with it" in words
    assert b"Traceback" not in errors
    assert commands_mentioning(str(out)) == []


def test_demo_leaves_a_full_folder_alone(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("kept")
    done = subprocess.run([*COMMAND, "transe", "--out", str(tmp_path)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert "is not an empty folder" in done.stderr
    assert [file.name for file in tmp_path.iterdir()] == ["precious"]
