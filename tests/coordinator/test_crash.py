import time
from pathlib import Path

import pytest

from .support import Member, Server, members

TRAINING = {"clients": 3, "rounds": 4, "evaluate_every": 2, "dense": {"w": {"shape": [3], "init": 0.1}}}


def begun(data_dir: Path) -> tuple[Server, list[Member]]:
    server = Server(data_dir)
    crowd = members(6, 6, 6)
    server.join(*crowd)
    server.begin(**TRAINING)
    return server, crowd


def final_model(data_dir: Path, server: Server, crowd: list[Member]) -> bytes:
    view = server.run(crowd)
    server.close()
    assert (view.phase, view.round) == ("finished", 5)
    return (data_dir / "models" / f"{view.best_version}.safetensors").read_bytes()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    folder = tmp_path_factory.mktemp("undisturbed")
    return final_model(folder, *begun(folder))


def test_killed_with_some_updates_in(tmp_path: Path, undisturbed: bytes) -> None:
    server, crowd = begun(tmp_path)
    server.run(crowd, stop_at=2)
    before = server.until(2, "training")
    server.put_update(crowd[1], 2, crowd[1].trained(server.share(crowd[1], 2)))
    server.kill()
    (tmp_path / "incoming" / "0a.0b.tmp").write_bytes(b"half")
    server.start()
    after = server.view(crowd[1])
    assert (after.round, after.phase, after.answered) == (2, "training", True)
    assert (after.training, after.deadline) == (before.training, before.deadline)
    assert list(tmp_path.rglob("*.tmp")) == []
    assert final_model(tmp_path, server, crowd) == undisturbed


def test_killed_right_after_the_last_update_of_every_round(tmp_path: Path, undisturbed: bytes) -> None:
    server, crowd = begun(tmp_path)
    for number in range(1, 5):
        _until_training(server, crowd, number)
        for member in crowd:
            server.put_update(member, number, member.trained(server.share(member, number)))
        server.kill()
        server.start()
    assert final_model(tmp_path, server, crowd) == undisturbed
    # Surplus versions are deleted after the commit that the end of the training is seen by.
    until = time.monotonic() + 10
    while (kept := {path.name for path in (tmp_path / "models").iterdir()}) != {"5.safetensors"}:
        assert time.monotonic() < until, kept
        time.sleep(0.05)


def _until_training(server: Server, crowd: list[Member], number: int) -> None:
    """Evaluate where that is due, until the round is in training."""
    until = time.monotonic() + 10
    while time.monotonic() < until:
        view = server.view()
        if (view.round, view.phase) == (number, "training"):
            return
        for member in crowd:
            seen = server.view(member)
            if seen.phase == "evaluating" and seen.selected and not seen.answered:
                server.act(member, seen)
        server.view(wait=1, after=view.event)
    raise TimeoutError(f"round {number} did not open: {server.operator('GET', '/rounds').text}")
