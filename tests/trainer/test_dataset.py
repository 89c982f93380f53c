from pathlib import Path

import pytest

from trainer.dataset import read_dataset
from trainer.graph import DataError, Graph, write_folder


def test_umls_has_its_published_size(umls: Graph) -> None:
    assert (len(umls.entities), len(umls.relations)) == (135, 46)
    assert [len(umls.triples[split]) for split in ("train", "valid", "test")] == [5216, 652, 661]
    assert set(umls.left_out.values()) == {0}
    assert ("acquired_abnormality", "location_of", "experimental_model_of_disease") in umls.named("train")


def test_a_folder_is_read_by_its_path(tmp_path: Path) -> None:
    write_folder(tmp_path / "mine", {"train": [("a", "r", "b")]})
    assert read_dataset(str(tmp_path / "mine")).named("train") == [("a", "r", "b")]


def test_a_folder_goes_before_a_data_set_of_the_same_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_folder(tmp_path / "umls", {"train": [("a", "r", "b")]})
    monkeypatch.chdir(tmp_path)
    assert read_dataset("umls").entities == ["a", "b"]


def test_an_unknown_name_says_what_would_do() -> None:
    with pytest.raises(DataError, match="umlz: neither a folder, a file nor a PyKEEN data set; `umls`"):
        read_dataset("umlz")


def test_a_data_set_that_pykeen_cannot_give_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def lacking(dataset: str) -> None:
        raise ModuleNotFoundError("Need to pip install ogb to use this dataset")

    monkeypatch.setattr("pykeen.datasets.get_dataset", lacking)
    with pytest.raises(DataError, match=r"umls: PyKEEN could not read or download this data set \(Need to pip"):
        read_dataset("umls")


def test_a_missing_folder_is_not_looked_up_as_a_data_set(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="umls: there is no such folder"):
        read_dataset(str(tmp_path / "umls"))


def test_a_folder_of_txt_files_is_read_as_one_of_tsv_files(tmp_path: Path) -> None:
    (tmp_path / "train.txt").write_text("a\tr\tb\n")
    (tmp_path / "test.txt").write_text("b\tr\ta\n")
    assert read_dataset(str(tmp_path)).named("test") == [("b", "r", "a")]


def test_our_own_form_goes_before_those_of_others(tmp_path: Path) -> None:
    write_folder(tmp_path, {"train": [("a", "r", "b")]})
    for name in ("train.txt", "train.del", "train2id.txt", "dataset.yaml"):
        (tmp_path / name).write_text("x")
    assert read_dataset(str(tmp_path)).named("train") == [("a", "r", "b")]


@pytest.mark.parametrize("name", ["all.tsv", "mine", "openke", "libkge"])
def test_a_graph_that_cannot_be_trained_on_is_named(tmp_path: Path, name: str) -> None:
    files = {
        "all.tsv": {"all.tsv": "\n"},
        "mine": {"mine/train.tsv": ""},
        "openke": {f"openke/{file}2id.txt": "0\n" for file in ("entity", "relation", "train", "valid", "test")},
        "libkge": {f"libkge/{f}.del": "" for f in ("entity_ids", "relation_ids", "train", "valid", "test")},
    }
    for file, text in files[name].items():
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_text(text)
    with pytest.raises(DataError, match=f"{name}: the training split holds no triple"):
        read_dataset(str(tmp_path / name))


def test_a_pickle_is_refused_with_the_way_out(tmp_path: Path) -> None:
    (tmp_path / "fed3.pkl").write_bytes(b"")
    with pytest.raises(DataError, match=r"fed3\.pkl: a pickle is read by `tripleherd convert` alone"):
        read_dataset(str(tmp_path / "fed3.pkl"))
