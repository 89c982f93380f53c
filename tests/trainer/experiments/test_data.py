from pathlib import Path

import pytest

from trainer.dataset import read_dataset
from trainer.experiments.data import Clients, clients_of
from trainer.experiments.schema import Experiment
from trainer.graph import DataError, read_tsv
from trainer.split import deal


def experiment(choice: dict[str, object]) -> Experiment:
    described = {"name": "one", "data": {"a": choice}, "variants": {"t": {"interaction": "transe"}}, "seeds": [0, 1]}
    return Experiment.model_validate(described)


def graph(folder: Path, line: str = "a\tr\tb\n") -> Path:
    folder.mkdir(parents=True)
    (folder / "train.tsv").write_text(line)
    return folder


def test_the_folders_are_found_beside_the_file_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    for number in (10, 9, 0):
        graph(tmp_path / "d" / f"client_{number}")
    found = clients_of(experiment({"folder": "d"}), tmp_path, tmp_path / "out")
    assert list(found["a", 0].folders) == ["client_0", "client_9", "client_10"]
    assert found["a", 0] == found["a", 1]


def test_a_data_set_is_dealt_by_the_seed_and_again_the_same(tmp_path: Path) -> None:
    choice = {"dataset": "nations", "split": {"clients": 2}}
    first, second = (clients_of(experiment(choice), tmp_path, tmp_path / out) for out in ("x", "y"))
    assert first["a", 0].digest == second["a", 0].digest
    assert first["a", 0].digest != first["a", 1].digest
    assert (tmp_path / "x" / "a-seed1" / "client_1" / "test.tsv").is_file()


def test_a_data_set_is_dealt_as_the_split_says(tmp_path: Path) -> None:
    choice = {"dataset": "nations", "split": {"clients": 2, "by": "triples", "skew": 50}}
    clients = clients_of(experiment(choice), tmp_path, tmp_path / "out")["a", 1]
    expected = deal(read_dataset("nations"), 2, 1, "triples", 50)
    for folder, parts in zip(clients.folders.values(), expected, strict=True):
        assert read_tsv(folder / "train.tsv") == parts["train"]


def test_a_deal_has_the_texts_of_what_is_dealt(tmp_path: Path) -> None:
    (graph(tmp_path / "d") / "entities.tsv").write_text("a\tan a\nz\tnowhere\n")
    choice = {"dataset": "d", "split": {"clients": 1}}
    (folder,) = clients_of(experiment(choice), tmp_path, tmp_path / "out")["a", 0].folders.values()
    assert (folder / "entities.tsv").read_text() == "a\tan a\n"
    (tmp_path / "d" / "entities.tsv").unlink()
    clients_of(experiment(choice), tmp_path, tmp_path / "out")
    assert not (folder / "entities.tsv").exists()


def test_a_path_is_looked_for_beside_the_file_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    graph(tmp_path / "elsewhere" / "data" / "d")
    monkeypatch.chdir(tmp_path / "elsewhere")
    with pytest.raises(DataError, match="d"):
        clients_of(experiment({"dataset": "data/d", "split": {"clients": 1}}), tmp_path, tmp_path / "out")


def test_the_digest_tells_what_the_folders_hold_and_whose_it_is(tmp_path: Path) -> None:
    one, other = graph(tmp_path / "client_0"), graph(tmp_path / "client_1", "a\tr\tc\n")
    before = Clients.of([one, other]).digest
    assert Clients.of([one, other]).digest == before
    assert Clients.of([one]).digest != before
    (one / "valid.tsv").write_text("b\tr\ta\n")
    assert Clients.of([one, other]).digest != before


@pytest.mark.parametrize(
    ("prepare", "said"),
    [
        (lambda folder: None, "d: there is no such folder"),
        (lambda folder: folder.mkdir(), "there is no folder client_"),
        (lambda folder: (folder / "client_0").mkdir(parents=True), "train.tsv is missing"),
        (lambda folder: graph(folder / "client_0", "a b\n"), "train.tsv:1"),
    ],
)
def test_data_that_cannot_be_read_are_refused_before_anything_runs(tmp_path: Path, prepare, said: str) -> None:
    prepare(tmp_path / "d")
    with pytest.raises(DataError, match=said):
        clients_of(experiment({"folder": "d"}), tmp_path, tmp_path / "out")
