"""A coordinator that is killed with SIGKILL at every place of storing an update and of closing a round."""

import contextlib
import time
from pathlib import Path

import httpx
import pytest

from services.coordinator.failpoints import FAILPOINTS
from tests.coordinator.support import Member, Server, members

pytestmark = pytest.mark.faults

TRAINING = {"clients": 3, "rounds": 4, "evaluate_every": 2, "dense": {"w": {"shape": [3], "init": 0.1}}}
LAST = 5


def begun(data_dir: Path) -> tuple[Server, list[Member]]:
    server = Server(data_dir)
    crowd = members(6, 6, 6)
    server.join(*crowd)
    server.begin(**TRAINING)
    return server, crowd


def run_to_the_end(server: Server, crowd: list[Member]) -> int:
    """Run the training, starting the server again whenever it dies; returns how often it died."""
    deaths = 0
    while True:
        try:
            view = server.run(crowd)
        except (httpx.TransportError, AssertionError):
            until = time.monotonic() + 10
            while server.process.poll() is None and time.monotonic() < until:
                time.sleep(0.02)
            assert server.process.poll() is not None, "the server refused a call, and lives"
            deaths += 1
            server.close_connections()
            server.start(COORDINATOR_FAILPOINT="")
            continue
        assert (view.phase, view.round, view.best_version) == ("finished", LAST, LAST)
        return deaths


def final_model(data_dir: Path) -> bytes:
    return (data_dir / "models" / f"{LAST}.safetensors").read_bytes()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    folder = tmp_path_factory.mktemp("undisturbed")
    server, crowd = begun(folder)
    assert run_to_the_end(server, crowd) == 0
    server.close()
    return final_model(folder)


@pytest.mark.parametrize("nth", [1, 2])
@pytest.mark.parametrize("name", FAILPOINTS)
def test_killed_there_it_comes_back_in_the_same_round_and_ends_with_the_same_model(
    tmp_path: Path, undisturbed: bytes, name: str, nth: int
) -> None:
    server, crowd = begun(tmp_path)
    before = server.run(crowd, stop_at=2)
    server.stop()
    server.start(COORDINATOR_FAILPOINT=f"{name}:{nth}")
    assert server.view().training == before.training
    assert run_to_the_end(server, crowd) == 1, f"{name} was not reached"
    history = server.operator("GET", "/rounds").json()
    updates = {each["round"]: each["updates"] for each in history["rounds"]}
    server.close()
    assert updates == {1: 3, 2: 3, 3: 3, 4: 3, 5: 0}
    assert final_model(tmp_path) == undisturbed
    assert list(tmp_path.rglob("*.tmp")) == []


def test_a_model_that_is_flushed_and_not_renamed_is_not_served(tmp_path: Path) -> None:
    server, crowd = begun(tmp_path)
    server.run(crowd, stop_at=2)
    server.until(2, "training")
    old = (tmp_path / "models" / "2.safetensors").read_bytes()
    for member in crowd[:2]:
        server.put_update(member, 2, member.trained(server.share(member, 2)))
    body = crowd[2].trained(server.share(crowd[2], 2))
    server.stop()
    # The second blob from here on is the model: the first is the last update.
    server.start(COORDINATOR_FAILPOINT="blob.synced:2")
    with contextlib.suppress(httpx.TransportError):  # it may die before it has answered
        server.put_update(crowd[2], 2, body)
    server.process.wait(10)
    assert [path.name for path in (tmp_path / "models").iterdir()] == ["2.safetensors"]
    server.close_connections()
    server.start(COORDINATOR_FAILPOINT="")
    server.until(3, "evaluating")
    assert (tmp_path / "models" / "2.safetensors").exists() is False or (
        tmp_path / "models" / "2.safetensors"
    ).read_bytes() == old
    assert list(tmp_path.rglob("*.tmp")) == []
    server.close()
