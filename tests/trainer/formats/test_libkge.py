from pathlib import Path

import pytest
import yaml

from trainer.dataset import read_dataset
from trainer.graph import DataError

FILES = {
    "entity_ids.del": "0\tQ100\n1\tNew York\n2\tQ7\n",
    "relation_ids.del": "0\tP17\n1\tP36\n",
    "train.del": "0\t1\t1\n1\t0\t2\n",  # subject, predicate, object
    "valid.del": "2\t1\t0\n",
    "test.del": "",
}
TRAIN = [("Q100", "P36", "New York"), ("New York", "P17", "Q7")]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    return tmp_path


def describe(folder: Path, **settings: object) -> None:
    (folder / "dataset.yaml").write_text(yaml.dump({"dataset": {"name": "toy", **settings}}))


def test_the_usual_files_are_read_without_a_description(folder: Path) -> None:
    graph = read_dataset(str(folder))
    assert graph.named("train") == TRAIN
    assert graph.named("valid") == [("Q7", "P36", "Q100")]


def test_the_description_names_the_files(folder: Path) -> None:
    (folder / "train.del").rename(folder / "all.del")
    (folder / "entity_ids.del").rename(folder / "entities.del")
    describe(folder, **{"files.train.filename": "all.del", "files.entity_ids.filename": "entities.del"})
    assert read_dataset(str(folder)).named("train") == TRAIN


@pytest.mark.parametrize("outside", ["../secret", "/etc/passwd", "", "."])
def test_files_outside_the_folder_are_not_read(folder: Path, outside: str) -> None:
    describe(folder, **{"files.train.filename": outside})
    with pytest.raises(DataError, match=r"files.train.filename is no name of a file in this folder|is missing"):
        read_dataset(str(folder))


def test_a_name_that_aliases_make_endless_is_not_written_out(folder: Path) -> None:
    lists = "\n".join(f"{i}: &{i} [{', '.join([f'*{i - 1}' if i else 'x'] * 9)}]" for i in range(60))
    (folder / "dataset.yaml").write_text(f"{lists}\ndataset:\n  files.train.filename: *59\n")
    with pytest.raises(DataError, match=r"dataset\.yaml: files.train.filename is no name of a file in this folder$"):
        read_dataset(str(folder))


@pytest.mark.parametrize("text", ["[1, 2", "name: x", "dataset: 5", "!!python/object/apply:os.getcwd []", "- dataset"])
def test_a_description_that_is_none_is_named(folder: Path, text: str) -> None:
    (folder / "dataset.yaml").write_text(text)
    with pytest.raises(DataError, match=r"dataset\.yaml: is not LibKGE's description"):
        read_dataset(str(folder))


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("train.del", "0\t9\t1\n", "train.del:1: 9 is not in entity_ids.del or relation_ids.del"),
        ("train.del", "0\t1\n", "train.del:1: expected three numbers"),
        ("relation_ids.del", "0 P17\n", "relation_ids.del:1: expected a name and its number"),
        ("relation_ids.del", "0\tP17\n0\tP36\n", "relation_ids.del:2: 'P36' or its number 0 stands there twice"),
    ],
)
def test_what_cannot_be_read_is_named(folder: Path, name: str, text: str, said: str) -> None:
    (folder / name).write_text(text)
    with pytest.raises(DataError) as error:
        read_dataset(str(folder))
    assert said in str(error.value)


def test_a_missing_file_is_named(folder: Path) -> None:
    (folder / "valid.del").unlink()
    with pytest.raises(DataError, match=r"valid\.del: is missing"):
        read_dataset(str(folder))
