import stat
from pathlib import Path

import numpy as np
import pytest

from protocol.federation import Metrics
from trainer.home import Credentials, Home, HomeUnusable, TrainingHome
from trainer.results import ClientResult

HERE, THERE = "http://127.0.0.1:8001", "http://10.0.0.1:8001"
GRAPH = "d1ge57"


def private(folder: Path) -> Path:
    """The one file of a home, which nobody else may read."""
    (file,) = folder.iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    return file


def state(value: float) -> dict[str, np.ndarray]:
    return {"entities": np.full((2, 3), value, dtype=np.float32), "relations": np.full((1, 3), -value, np.float32)}


def files(home: TrainingHome) -> set[str]:
    return {path.name for path in home.path.iterdir()}


def test_credentials_are_made_once_and_readable_by_their_owner_alone(tmp_path: Path) -> None:
    home = Home(tmp_path / "new" / "home")
    made = home.credentials(HERE, GRAPH)
    assert made.client is made.secret is None
    assert len(bytes.fromhex(made.join_key)) == 32
    assert Home(home.path).credentials(HERE, GRAPH) == made
    assert private(home.path).suffix == ".json"


def test_a_secret_that_is_kept_comes_back_and_stays_private(tmp_path: Path) -> None:
    home = Home(tmp_path)
    kept = home.credentials(HERE, GRAPH).model_copy(update={"client": "c1", "secret": "s3cret"})
    home.keep(kept)
    assert home.credentials(HERE, GRAPH) == kept
    assert private(tmp_path).suffix == ".json"


def test_a_left_over_part_of_a_killed_client_is_no_hindrance(tmp_path: Path) -> None:
    Home(tmp_path).credentials(HERE, GRAPH)
    part = private(tmp_path).with_suffix(".part")
    private(tmp_path).unlink()
    part.write_text("half a fi")
    part.chmod(0o644)
    Home(tmp_path).credentials(HERE, GRAPH)
    assert private(tmp_path).suffix == ".json"


def test_another_coordinator_is_not_shown_the_secret_of_the_first(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.keep(Credentials(join_key="a" * 64, coordinator=HERE, graph=GRAPH, client="c1", secret="s3cret"))
    there = home.credentials(THERE, GRAPH)
    assert there.secret is None
    assert there.join_key != "a" * 64


def test_another_graph_is_another_client(tmp_path: Path) -> None:
    home = Home(tmp_path)
    first = home.credentials(HERE, GRAPH)
    assert home.credentials(HERE, "another").join_key != first.join_key
    assert home.credentials(HERE, GRAPH) == first


def test_a_training_is_begun_with_its_first_round_or_version(tmp_path: Path) -> None:
    home = Home(tmp_path).training("c1", "t1")
    assert not home.begun()
    home.keep_version(4, state(4), best=None)
    assert home.begun()


def test_a_round_comes_back_with_its_loss(tmp_path: Path) -> None:
    home = Home(tmp_path).training("c1", "t1")
    assert home.round(3) is None
    home.keep_round(3, state(1.5), loss=0.125)
    kept = home.round(3)
    assert kept is not None
    assert kept[1] == 0.125
    assert {name: array.tolist() for name, array in kept[0].items()} == {
        name: array.tolist() for name, array in state(1.5).items()
    }


def test_the_last_two_rounds_are_kept_by_number_not_by_name(tmp_path: Path) -> None:
    home = Home(tmp_path).training("c1", "t1")
    for number in (8, 9, 10, 11):
        home.keep_round(number, state(number), loss=0.0)
    assert files(home) == {"round-10.safetensors", "round-11.safetensors"}


def test_relations_come_from_the_latest_round_before(tmp_path: Path) -> None:
    home = Home(tmp_path).training("c1", "t1")
    assert home.relations_before(10) is None
    home.keep_round(9, state(9), loss=0.0)
    home.keep_round(10, state(10), loss=0.0)
    for number, expected in ((15, -10), (11, -10), (10, -9)):
        relations = home.relations_before(number)
        assert relations is not None
        assert relations[0, 0] == expected
    # Older rounds are gone; the nearest stands in for them.
    assert home.relations_before(9)[0, 0] == -9


def test_only_the_latest_and_the_best_version_are_kept(tmp_path: Path) -> None:
    home = Home(tmp_path).training("c1", "t1")
    home.keep_version(5, state(5), best=None)
    home.keep_version(10, state(10), best=5)
    assert files(home) == {"version-5.safetensors", "version-10.safetensors"}
    home.keep_version(15, state(15), best=10)
    assert files(home) == {"version-10.safetensors", "version-15.safetensors"}
    home.keep_round(15, state(1), loss=0.0)
    best = home.version(10)
    assert best is not None
    assert best["entities"][0, 0] == 10
    assert home.version(5) is None


def test_trainings_do_not_share_their_rounds(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.training("c1", "t1").keep_round(1, state(1), loss=0.0)
    assert home.training("c1", "t2").round(1) is None


def test_results_say_that_the_client_is_done(tmp_path: Path) -> None:
    home = Home(tmp_path).training("c1", "t1")
    assert home.results() is None
    metrics = Metrics(mrr=0.3, hits_at_1=0.1, hits_at_3=0.2, hits_at_10=0.9)
    row = ClientResult(
        interaction="transe", mode="fusion", client="c", triples=3, candidates=9, left_out=1, sides={"both": metrics}
    )
    home.keep_results([row])
    assert home.results() == [row]
    home.keep_results([])
    assert home.results() == []


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.credentials(HERE, GRAPH)
    private(tmp_path).write_text("{")
    with pytest.raises(HomeUnusable, match=r"client-\w+\.json: is damaged"):
        home.credentials(HERE, GRAPH)


def test_a_home_is_for_one_process_at_a_time(tmp_path: Path) -> None:
    with Home(tmp_path).alone(), pytest.raises(HomeUnusable, match="--home"), Home(tmp_path).alone():
        pass
    with Home(tmp_path).alone():
        pass
