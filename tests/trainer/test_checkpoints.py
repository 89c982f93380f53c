import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from protocol.rounds import Metrics
from trainer.checkpoints import Checkpoint, HomeUnusable, TrainedRound, TrainingHome
from trainer.results import ClientResult


@pytest.fixture
def home(tmp_path: Path) -> TrainingHome:
    return TrainingHome(tmp_path / "client" / "training")


def state(value: float) -> dict[str, np.ndarray]:
    return {"entities": np.full((2, 3), value, dtype=np.float32), "relations": np.full((1, 3), -value, np.float32)}


def own(value: float) -> dict[str, np.ndarray]:
    return {"relations": state(value)["relations"]}


def trained(value: float) -> TrainedRound:
    return TrainedRound(state(value), loss=value / 7, triples=5)


def take(home: TrainingHome, number: int, best: int | None = None) -> None:
    home.keep_round(number, trained(number))
    home.accept(number, own(number), best)


def of_version(home: TrainingHome, version: int) -> float | None:
    rows = home.own_before(version)
    return None if rows is None else -float(rows["relations"][0, 0])


def files(home: TrainingHome) -> set[str]:
    return {path.name for path in home.path.iterdir()}


def test_a_round_is_unsettled_until_it_is_taken(home: TrainingHome) -> None:
    assert home.unsettled() == []
    home.keep_round(3, trained(1.5))
    kept = home.round(3)
    assert (kept.loss, kept.triples) == (1.5 / 7, 5)
    assert {n: a.tolist() for n, a in kept.state.items()} == {n: a.tolist() for n, a in state(1.5).items()}
    assert home.unsettled() == [3]
    home.accept(3, own(3), best=None)
    assert home.unsettled() == []
    assert files(home) == {"own-3.safetensors"}


def test_rows_of_a_version_are_those_of_the_last_round_before_it_that_was_taken(home: TrainingHome) -> None:
    take(home, 8)
    home.keep_round(9, trained(9))
    assert of_version(home, 10) == 8  # not known to be taken
    home.refuse(9)
    assert of_version(home, 10) == 8
    assert home.unsettled() == []
    take(home, 10, best=10)
    take(home, 11, best=10)
    found = {version: of_version(home, version) for version in (20, 12, 10, 9, 8)}
    assert found == {20: 11, 12: 11, 10: 8, 9: 8, 8: None}


def test_what_the_best_version_needs_is_kept_whatever_follows(home: TrainingHome) -> None:
    for number, best in ((2, None), (5, None), (9, 6), (10, 6), (11, 6)):
        take(home, number, best)
        if best:
            assert of_version(home, best) == 5
    assert files(home) == {"own-5.safetensors", "own-11.safetensors"}
    take(home, 12, best=12)
    assert of_version(home, 12) == 11
    assert of_version(home, 13) == 12


def test_taken_twice_is_taken_once(home: TrainingHome) -> None:
    home.keep_round(4, trained(4))
    # As if it was killed before the second of accept's two steps.
    home.accept(4, own(4), None)
    home.keep_round(4, trained(4))
    assert home.unsettled() == [4]
    home.accept(4, own(4), None)
    assert files(home) == {"own-4.safetensors"}


def test_a_training_that_shares_all_keeps_no_rows_of_its_own(home: TrainingHome) -> None:
    home.keep_round(1, trained(1))
    home.accept(1, {}, None)
    assert home.own_before(2) == {}


def test_a_checkpoint_comes_back_for_its_round_and_its_data(home: TrainingHome) -> None:
    arrays = state(2) | {"generator": np.arange(9, dtype=np.uint8)}
    home.keep_checkpoint(6, "data", Checkpoint(arrays, epochs=2, loss=0.3))
    found = home.checkpoint(6, "data")
    assert found is not None
    assert (found.epochs, found.loss) == (2, 0.3)
    for name, array in arrays.items():
        np.testing.assert_array_equal(found.arrays[name], array)
    assert home.checkpoint(7, "data") is None
    assert home.checkpoint(6, "other data") is None
    assert home.unsettled() == []
    home.keep_checkpoint(7, "data", Checkpoint(arrays, 1, 0.2))
    assert files(home) == {"round-7.part.safetensors"}
    home.keep_round(7, trained(7))
    assert files(home) == {"round-7.safetensors"}


def damage(file: Path) -> None:
    body = bytearray(file.read_bytes())
    body[-1] ^= 1
    file.write_bytes(body)


def test_a_damaged_checkpoint_or_version_is_made_again(home: TrainingHome) -> None:
    home.keep_checkpoint(6, "data", Checkpoint(state(2), 2, 0.3))
    home.keep_version(6, state(1), best=None)
    for file in home.path.iterdir():
        damage(file)
    assert home.checkpoint(6, "data") is None
    assert home.version(6) is None


@pytest.mark.parametrize("read", [lambda home: home.round(2), lambda home: home.own_before(2)], ids=["round", "own"])
def test_what_nothing_else_can_stand_in_for_is_refused_with_the_way_out(
    home: TrainingHome, read: Callable[[TrainingHome], object]
) -> None:
    take(home, 1)
    home.keep_round(2, trained(2))
    for file in home.path.iterdir():
        damage(file)
    with pytest.raises(HomeUnusable, match=r"is damaged .*; put a backup in its place, or delete it"):
        read(home)


def test_a_training_is_one_graph_s(home: TrainingHome) -> None:
    assert not home.begun("a")
    home.begin("d1")
    home.begin("d2")  # nothing is trained yet
    home.begin("d2")
    assert home.begun("d2")
    assert not home.begun("d1")
    home.keep_version(1, state(1), best=None)
    with pytest.raises(HomeUnusable, match="other entities or relations"):
        home.begin("d1")
    home.begin("d2")


def test_only_the_latest_and_the_best_version_are_kept(home: TrainingHome) -> None:
    home.keep_version(5, state(5), best=None)
    home.keep_version(10, state(10), best=5)
    assert files(home) == {"version-5.safetensors", "version-10.safetensors"}
    home.keep_version(15, state(15), best=10)
    assert files(home) == {"version-10.safetensors", "version-15.safetensors"}
    best = home.version(10)
    assert best is not None
    assert best["entities"][0, 0] == 10
    assert home.version(5) is None


def test_results_say_that_the_client_is_done(home: TrainingHome) -> None:
    assert home.results() is None
    metrics = Metrics(mrr=0.3, hits_at_1=0.1, hits_at_3=0.2, hits_at_5=0.4, hits_at_10=0.9, mr=4, amri=0.5, mrr_gap=0)
    row = ClientResult(
        interaction="transe", mode="fusion", client="c", triples=3, candidates=9, left_out=1, sides={"both": metrics}
    )
    home.keep_results([row])
    assert home.results() == [row]
    (home.path / "results.json").write_text("[")
    with pytest.raises(HomeUnusable, match="measured again"):
        home.results()


def test_results_of_an_earlier_version_are_refused_in_words(home: TrainingHome) -> None:
    """They lack metrics, which the models are measured again for."""
    old = {"mrr": 0.3, "hits@1": 0.1, "hits@3": 0.2, "hits@10": 0.9}
    row = {"interaction": "transe", "mode": "fusion", "client": "c", "triples": 3, "candidates": 9, "left_out": 1}
    home.keep_results([])
    (home.path / "results.json").write_text(json.dumps([row | {"sides": {"both": old}}]))
    with pytest.raises(HomeUnusable, match=r"results\.json: is damaged, or of an earlier version; delete it"):
        home.results()


def test_before_any_evaluation_the_rows_of_the_present_version_are_kept_too(tmp_path: Path) -> None:
    """A training that is stopped then ends with the version of its open round."""
    home = TrainingHome(tmp_path)
    for number in (1, 2, 3):
        home.accept(number, {"relations": np.full((1, 2), number, np.float32)}, None)
    own = home.own_before(3)
    assert own is not None
    assert own["relations"][0, 0] == 2
    assert home.own_before(2) is None
