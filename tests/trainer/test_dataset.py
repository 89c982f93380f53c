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
    with pytest.raises(DataError, match="umlz: neither a folder nor a PyKEEN data set; `umls`"):
        read_dataset("umlz")


def test_a_missing_folder_is_not_looked_up_as_a_data_set(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="umls: there is no such folder"):
        read_dataset(str(tmp_path / "umls"))
