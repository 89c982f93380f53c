"""The download path, against a hub on the loopback. A process reads HF_ENDPOINT once, so each load is its own."""

import os
import subprocess
import sys
from pathlib import Path

from ..serving import ROOT, fails_to_start, free_port
from .checkpoints import write
from .hub import COMMIT, REPOSITORY, serve

LOAD = """
from services.scorer.model.loading import LoadError, load
from services.scorer.settings import Settings
try:
    loaded = load(Settings())
    print(loaded.name, loaded.revision, loaded.model.config.hidden_size)
except LoadError as error:
    print(error)
"""


def loads(tmp_path: Path, endpoint: str, **environment: str) -> str:
    """Load the repository in a process of its own: what it is called, its revision and hidden size; or the refusal."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("SCORER_", "HF_", "TRANSFORMERS_"))}
    ours = {"SCORER_MODEL": REPOSITORY, "HF_ENDPOINT": endpoint, "HF_HOME": str(tmp_path / "home")}
    run = subprocess.run(
        [sys.executable, "-c", LOAD],
        cwd=ROOT,
        env={**inherited, "HF_HUB_DISABLE_TELEMETRY": "1", **ours, **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return run.stdout.strip()


def test_a_hub_model_is_fetched_once_and_kept(tmp_path: Path) -> None:
    write(tmp_path / "checkpoint", shards="40KB")
    (tmp_path / "checkpoint/pytorch_model.bin").write_bytes(b"a pickle that nobody asked for")
    (tmp_path / "checkpoint/tokenizer.py").write_bytes(b"code that nobody asked for")
    with serve(tmp_path / "checkpoint") as hub:
        endpoint = hub.endpoint
        assert loads(tmp_path, endpoint) == f"{REPOSITORY} {COMMIT} 64"
        assert any(path.endswith(".safetensors") for path in hub.asked)
        assert not any(path.endswith((".bin", ".py")) for path in hub.asked)
    assert loads(tmp_path, endpoint) == f"{REPOSITORY} {COMMIT} 64"  # the hub is down now


def test_a_branch_is_resolved_and_a_commit_is_taken_at_its_word(tmp_path: Path) -> None:
    write(tmp_path / "checkpoint")
    with serve(tmp_path / "checkpoint") as hub:
        assert COMMIT in loads(tmp_path, hub.endpoint, SCORER_REVISION="main")
        hub.asked.clear()
        cache = str(tmp_path / "cache")
        assert COMMIT in loads(tmp_path, hub.endpoint, SCORER_REVISION=COMMIT, SCORER_CACHE_DIR=cache)
        assert hub.asked
        assert not any("/main" in path for path in hub.asked)


def test_a_hub_model_of_pickles_only(tmp_path: Path) -> None:
    write(tmp_path / "checkpoint")
    (tmp_path / "checkpoint/model.safetensors").rename(tmp_path / "checkpoint/pytorch_model.bin")
    with serve(tmp_path / "checkpoint") as hub:
        assert f"{REPOSITORY!r}: no *.safetensors" in loads(tmp_path, hub.endpoint)
        assert not any(path.endswith(".bin") for path in hub.asked)


def the_line(log: str, endpoint: str) -> str:
    assert "Traceback" not in log
    (line,) = [line for line in log.splitlines() if endpoint in line]
    return line


def test_a_repository_that_is_not_there(tmp_path: Path) -> None:
    write(tmp_path / "checkpoint")
    with serve(tmp_path / "checkpoint") as hub:
        line = loads(tmp_path, hub.endpoint, SCORER_MODEL="herd/absent")
    assert "'herd/absent'" in line
    assert "no such repository" in line


def test_a_hub_that_does_not_answer(tmp_path: Path) -> None:
    endpoint = f"http://127.0.0.1:{free_port()}"
    status, log = fails_to_start(
        tmp_path, SCORER_MODEL=REPOSITORY, HF_ENDPOINT=endpoint, HF_HOME=str(tmp_path / "home")
    )
    assert status != 0
    line = the_line(log, endpoint)
    assert f"'{REPOSITORY}'" in line
    assert "HF_ENDPOINT" in line
