"""The tutorials, step by step as they are written."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import httpx

from protocol.rounds import Rounds
from tests.scorer.serving import scorer
from trainer.processes import LOOPBACK, Processes, free_port

DOCS = Path(__file__).parents[2] / "docs" / "tutorial"
BIN = Path(sys.executable).parent


def blocks(page: str, language: str, before: str = "") -> list[str]:
    """The page's blocks of code in a language; of those, the ones that stand right behind some words."""
    text = (DOCS / page).read_text(encoding="utf-8")
    return re.findall(rf"{re.escape(before)}```{language}\n(.*?)```", text, re.DOTALL)


def shell(block: str, folder: Path, **environment: str) -> str:
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("TRAINER_", "COORDINATOR_"))}
    path = {"PATH": f"{BIN}:{os.environ['PATH']}", "PYTHONPATH": str(DOCS.parents[1]), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", block],
        cwd=folder,
        env=plain | path | environment,
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_first_federation(tmp_path: Path) -> None:
    install, split, secrets, serve, start, join, ask = blocks("first-federation.md", "bash")
    assert install.split()[:2] == ["make", "install"]
    port = free_port()
    here = {"TRAINER_COORDINATOR": f"http://{LOOPBACK}:{port}"}
    assert "client_2" in shell(split, tmp_path)
    shell(secrets, tmp_path)
    settings = dict(re.findall(r"(COORDINATOR_\w+)=(\S+)", serve))
    arguments = serve[serve.index("uvicorn") :].replace("8001", str(port)).split()
    with Processes(tmp_path / "logs") as processes:
        absolute = {name: str(tmp_path / path) for name, path in settings.items()}
        data = {"COORDINATOR_DATA_DIR": str(tmp_path / "state")}
        processes.start("coordinator", arguments, absolute | data)
        processes.wait_ready(here["TRAINER_COORDINATOR"], lambda: None)
        started = shell(start, tmp_path, **here)
        assert f"{here['TRAINER_COORDINATOR']}/#pass=" in started
        shell(join, tmp_path, **here)
        token = (tmp_path / "secrets" / "operator").read_text().strip()
        reply = httpx.get(f"{here['TRAINER_COORDINATOR']}/rounds", headers={"Authorization": f"Bearer {token}"})
        (training,) = Rounds.model_validate_json(reply.content).trainings
        assert training.phase == "finished"
    for mode in ("isolation", "federation", "fusion"):
        assert mode in (tmp_path / "client_0.log").read_text()
    asked = shell(ask, tmp_path)
    assert "distmult, fusion, test" in asked
    assert "rank" in asked


def test_your_own_graph(tmp_path: Path) -> None:
    triples = [f"e{i % 17}\tr{i % 5}\te{(3 * i + 1) % 17}" for i in range(80)]
    (tmp_path / "triples.tsv").write_text("\n".join(dict.fromkeys(triples)) + "\n")
    examples = blocks("own-graph.md", "bash", "<!-- example: triples.tsv -->\n")
    assert len(examples) == len(blocks("own-graph.md", "bash")) == 2
    for example in examples:
        shell(example, tmp_path)
    assert (tmp_path / "my-graph" / "client_0" / "train.tsv").is_file()
    assert (tmp_path / "dealt" / "statistics.json").is_file()
    assert len(list((tmp_path / "dealt").glob("client_*/test.tsv"))) == 3


def test_scoring_from_a_notebook(tmp_path: Path) -> None:
    with scorer(tmp_path, SCORER_MODEL="embedded") as running:
        code = "".join(blocks("notebook.md", "python")).replace("http://127.0.0.1:8000", str(running.base_url))
        printed = shell(f"python - <<'END'\n{code}\nEND", tmp_path).splitlines()
    scores, likely, best = printed
    assert len(json.loads(scores)) == 2
    assert float(likely) < 0
    assert sorted(json.loads(best)) == [0, 1]
