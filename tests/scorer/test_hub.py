"""The download path, against a hub on the loopback."""

from pathlib import Path

from .hub import COMMIT, REPOSITORY, serve
from .models import save
from .serving import fails_to_start, free_port, scorer

SHORT = {"triples": [{"head": "a", "relation": "b", "tail": "c"}]}


def test_a_hub_model_is_fetched_once_and_kept(tmp_path: Path) -> None:
    checkpoint = save(tmp_path / "checkpoint")
    (checkpoint / "pytorch_model.bin").write_bytes(b"a pickle that nobody asked for")
    environment = {"SCORER_MODEL": REPOSITORY, "HF_HOME": str(tmp_path / "home"), "HF_HUB_DISABLE_TELEMETRY": "1"}
    with serve(checkpoint) as hub:
        endpoint = hub.endpoint
        with scorer(tmp_path, HF_ENDPOINT=endpoint, **environment) as client:
            info = client.get("/info").json()
            assert (info["model"], info["revision"], info["hidden"]) == (REPOSITORY, COMMIT, 32)
            scores = client.post("/score", json=SHORT).json()["scores"]
        assert any(path.endswith("model.safetensors") for path in hub.asked)
        assert not any(path.endswith(".bin") for path in hub.asked)
    with scorer(tmp_path, HF_ENDPOINT=endpoint, **environment) as client:  # the hub is down now
        assert client.get("/info").json()["revision"] == COMMIT
        assert client.post("/score", json=SHORT).json()["scores"] == scores


def the_line(log: str, endpoint: str) -> str:
    assert "Traceback" not in log
    (line,) = [line for line in log.splitlines() if endpoint in line]
    return line


def test_a_repository_that_is_not_there(tmp_path: Path) -> None:
    with serve(save(tmp_path / "checkpoint")) as hub:
        environment = {"HF_ENDPOINT": hub.endpoint, "HF_HOME": str(tmp_path / "home")}
        status, log = fails_to_start(tmp_path, SCORER_MODEL="herd/absent", **environment)
    assert status != 0
    line = the_line(log, hub.endpoint)
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
