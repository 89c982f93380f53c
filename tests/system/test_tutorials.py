"""The tutorials, step by step as they are written."""

import json
import math
import os
import re
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import httpx

from protocol.rounds import Rounds
from tests.scorer.model.checkpoints import write
from tests.scorer.model.hub import COMMIT, REPOSITORY
from tests.scorer.model.hub import serve as hub
from tests.scorer.serving import scorer
from trainer.graph import write_folder
from trainer.processes import LOOPBACK, Processes, free_port

DOCS = Path(__file__).parents[2] / "docs" / "tutorial"
BIN = Path(sys.executable).parent


def blocks(page: str, language: str) -> list[str]:
    """The page's blocks of code in a language."""
    return re.findall(rf"```{language}\n(.*?)```", (DOCS / page).read_text(encoding="utf-8"), re.DOTALL)


def shell(block: str, folder: Path, **environment: str) -> str:
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("TRAINER_", "COORDINATOR_"))}
    path = {"PATH": f"{BIN}:{os.environ['PATH']}", "PYTHONPATH": str(DOCS.parents[1]), "OMP_NUM_THREADS": "1"}
    asked = ["bash", "-euo", "pipefail", "-c", block]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "start_new_session": True}
    with subprocess.Popen(asked, cwd=folder, env=plain | path | environment, **pipes) as running:
        try:
            said, complained = running.communicate(timeout=280)
        finally:
            with suppress(ProcessLookupError):  # which is what it should be
                os.killpg(running.pid, signal.SIGKILL)
    assert running.returncode == 0, said + complained
    return said


def serve(processes: Processes, block: str, folder: Path) -> str:
    """Start the service of a block on a free port, as if in the folder; its address, once it is ready."""
    settings, command = block.replace("\\\n", " ").split("uvicorn ")
    given = dict(setting.split("=", 1) for setting in settings.split())
    files = {name: str(folder / value) for name, value in given.items() if (folder / value).exists()}
    own = {"COORDINATOR_DATA_DIR": str(folder / "state"), "HF_HOME": str(folder / "hub")}
    port = free_port()
    arguments = ["uvicorn", *command.split()[:-1], str(port)]
    processes.start(f"service-{port}", arguments, own | given | files)
    url = f"http://{LOOPBACK}:{port}"
    processes.wait_ready(url, lambda: None)
    return url


def test_a_first_federation_then_your_own_graph(tmp_path: Path) -> None:
    install, split, secrets, coordinate, start, join, ask, *llama = blocks("first-federation.md", "bash")
    assert install.split()[:2] == ["make", "install"]
    assert "client_2" in shell(split, tmp_path)
    shell(secrets, tmp_path)
    with Processes(tmp_path / "logs") as processes:
        here = {"TRAINER_COORDINATOR": serve(processes, coordinate, tmp_path)}
        assert f"{here['TRAINER_COORDINATOR']}/#pass=" in shell(start, tmp_path, **here)
        shell(join, tmp_path, **here)
        for mode in ("isolation", "federation", "fusion"):
            assert mode in (tmp_path / "client_0.log").read_text()
        asked = shell(ask, tmp_path)
        assert "distmult, fusion, test" in asked
        assert "rank" in asked

        scorer_url = serve(processes, llama[0], tmp_path)
        steps = [step.replace("http://127.0.0.1:8000", scorer_url) for step in llama[1:]]
        started, asked = [shell(step, tmp_path, **here) for step in steps]
        assert "members already: client_" in started
        assert "llama, fusion, test" in asked

        for number, site in enumerate(("north", "south", "east")):
            folder = tmp_path / "data" / "umls" / f"client_{number}"
            triples = "".join(path.read_text() for path in sorted(folder.glob("t*.tsv")))
            (tmp_path / f"{site}.tsv").write_text(triples.replace("_", " "))
        said = [shell(block, tmp_path, **here) for block in blocks("own-graph.md", "bash")]
        assert "members already" not in said[2]
        assert "fusion" in (tmp_path / "client_north.log").read_text()
        assert "distmult, fusion, test" in said[4]
        token = (tmp_path / "secrets" / "operator").read_text().strip()
        reply = httpx.get(f"{here['TRAINER_COORDINATOR']}/rounds", headers={"Authorization": f"Bearer {token}"})
        trainings = Rounds.model_validate_json(reply.content).trainings
        assert [each.phase for each in trainings] == ["finished"] * 3
    assert len(list((tmp_path / "dealt").glob("client_*/test.tsv"))) == 3


def tiny_graphs(folder: Path) -> None:
    """Three clients' graphs of a few triples, in the place of UMLS: each has a relation of its own."""
    for number in range(3):
        triples = [(f"e{i}", f"r{number}", f"e{(i + number + 1) % 12}") for i in range(12)]
        write_folder(folder / f"client_{number}", {"train": triples, "valid": triples[:2], "test": triples[2:4]})


def test_your_own_llama(tmp_path: Path) -> None:
    """From a mirror, then from a folder; a training through it."""
    _, _, secrets, coordinate, *_ = blocks("first-federation.md", "bash")
    mirrored, copied, info, score, *training = blocks("own-llama.md", "bash")
    write(tmp_path / "my-llama")
    tiny_graphs(tmp_path / "data" / "umls")
    shell(secrets, tmp_path)
    with Processes(tmp_path / "logs") as processes:
        here = {"TRAINER_COORDINATOR": serve(processes, coordinate, tmp_path)}
        with hub(tmp_path / "my-llama") as mirror, Processes(tmp_path / "mirrored") as first:
            asks = mirrored.replace("https://hf-mirror.com", mirror.endpoint)
            url = serve(first, asks.replace("HuggingFaceTB/SmolLM2-135M", REPOSITORY), tmp_path)
            told = json.loads(shell(info.replace("http://127.0.0.1:8000", url), tmp_path))
        assert (told["model"], told["revision"]) == (REPOSITORY, COMMIT)

        url = serve(processes, copied, tmp_path)
        steps = [step.replace("http://127.0.0.1:8000", url) for step in (score, *training)]
        scored, started, joined = [shell(step, tmp_path, **here) for step in steps]
        assert len(json.loads(scored)["scores"]) == 1
        assert f"{here['TRAINER_COORDINATOR']}/#pass=" in started
        assert "fusion" in joined


def test_scoring_from_a_notebook(tmp_path: Path) -> None:
    with scorer(tmp_path, SCORER_MODEL="embedded") as running:
        code = "".join(blocks("notebook.md", "python")).replace("http://127.0.0.1:8000", str(running.base_url))
        printed = shell(f"python - <<'END'\n{code}\nEND", tmp_path).splitlines()
    scores, likely, best, moved = printed
    assert len(json.loads(scores)) == 2
    assert float(likely) < 0
    assert sorted(json.loads(best)) == [0, 1]
    score, columns = moved.split()
    assert math.isfinite(float(score))
    assert int(columns) == 256
