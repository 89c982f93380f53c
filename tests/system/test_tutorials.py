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


def blocks(page: str, language: str) -> list[str]:
    """The page's blocks of code in a language."""
    return re.findall(rf"```{language}\n(.*?)```", (DOCS / page).read_text(encoding="utf-8"), re.DOTALL)


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


def test_a_first_federation_then_your_own_graph(tmp_path: Path) -> None:
    install, split, secrets, serve, start, join, ask, *llama = blocks("first-federation.md", "bash")
    assert install.split()[:2] == ["make", "install"]
    port, scorer_port = free_port(), free_port()
    here = {"TRAINER_COORDINATOR": f"http://{LOOPBACK}:{port}"}
    assert "client_2" in shell(split, tmp_path)
    shell(secrets, tmp_path)
    settings = {name: str(tmp_path / path) for name, path in re.findall(r"(COORDINATOR_\w+)=(\S+)", serve)}
    with Processes(tmp_path / "logs") as processes:
        arguments = serve[serve.index("uvicorn") :].replace("8001", str(port)).split()
        processes.start("coordinator", arguments, settings | {"COORDINATOR_DATA_DIR": str(tmp_path / "state")})
        processes.wait_ready(here["TRAINER_COORDINATOR"], lambda: None)
        assert f"{here['TRAINER_COORDINATOR']}/#pass=" in shell(start, tmp_path, **here)
        shell(join, tmp_path, **here)
        for mode in ("isolation", "federation", "fusion"):
            assert mode in (tmp_path / "client_0.log").read_text()
        asked = shell(ask, tmp_path)
        assert "distmult, fusion, test" in asked
        assert "rank" in asked

        serve, *steps = [block.replace(":8000", f":{scorer_port}").replace("8000", str(scorer_port)) for block in llama]
        processes.start("scorer", serve.split(), {})
        processes.wait_ready(f"http://{LOOPBACK}:{scorer_port}", lambda: None)
        started, asked = [shell(step, tmp_path, **here) for step in steps]
        assert "members already: client_" in started
        assert "llama, fusion, test" in asked

        for number, site in enumerate(("north", "south", "east")):
            folder = tmp_path / "data" / "umls" / f"client_{number}"
            (tmp_path / f"{site}.tsv").write_text("".join(path.read_text() for path in sorted(folder.glob("t*.tsv"))))
        said = [shell(block, tmp_path, **here) for block in blocks("own-graph.md", "bash")]
        assert "members already" not in said[2]
        assert "fusion" in (tmp_path / "client_north.log").read_text()
        assert "distmult, fusion, test" in said[4]
        token = (tmp_path / "secrets" / "operator").read_text().strip()
        reply = httpx.get(f"{here['TRAINER_COORDINATOR']}/rounds", headers={"Authorization": f"Bearer {token}"})
        trainings = Rounds.model_validate_json(reply.content).trainings
        assert [each.phase for each in trainings] == ["finished"] * 3
    assert len(list((tmp_path / "dealt").glob("client_*/test.tsv"))) == 3


def test_scoring_from_a_notebook(tmp_path: Path) -> None:
    with scorer(tmp_path, SCORER_MODEL="embedded") as running:
        code = "".join(blocks("notebook.md", "python")).replace("http://127.0.0.1:8000", str(running.base_url))
        printed = shell(f"python - <<'END'\n{code}\nEND", tmp_path).splitlines()
    scores, likely, best = printed
    assert len(json.loads(scores)) == 2
    assert float(likely) < 0
    assert sorted(json.loads(best)) == [0, 1]
