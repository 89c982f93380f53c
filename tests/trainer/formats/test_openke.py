from pathlib import Path

import pytest

from trainer.dataset import read_dataset
from trainer.graph import DataError

FILES = {
    "entity2id.txt": "3\r\n/m/027rn\t0\r\nNew York\t1\r\n36.7,-95.9\t2\r\n",
    "relation2id.txt": "2\nconcept:at\t0\nconcept:of\t1\n",
    "train2id.txt": "2\n0 1 1\n1 2 0\n",  # head, tail, relation
    "valid2id.txt": "1\n2\t0\t1",
    "test2id.txt": "0\n",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        (tmp_path / name).write_text(text, newline="")
    return tmp_path


def test_the_tail_stands_before_the_relation_and_names_become_ids(folder: Path) -> None:
    graph = read_dataset(str(folder))
    assert graph.named("train") == [("/m/027rn", "concept:of", "New York"), ("New York", "concept:at", "36.7,-95.9")]
    assert graph.named("valid") == [("36.7,-95.9", "concept:of", "/m/027rn")]
    assert not len(graph.triples["test"])


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("train2id.txt", "2\n0 1 1\n", "train2id.txt: its first line should say how many follow: 1, not '2'"),
        ("train2id.txt", "", "train2id.txt: its first line should say how many follow"),
        ("train2id.txt", "1\n0 3 1\n", "train2id.txt:2: 3 is not in entity2id.txt or relation2id.txt"),
        ("valid2id.txt", "1\n0 1\n", "valid2id.txt:2: expected three numbers"),
        ("entity2id.txt", "2\na\t0\nb\n", "entity2id.txt:3: expected a name and its number"),
        ("entity2id.txt", "2\na\t0\nb\t0\n", "entity2id.txt:3: 'b' or its number 0 stands there twice"),
        ("entity2id.txt", "2\na\t0\na\t1\n", "entity2id.txt:3: 'a' or its number 1 stands there twice"),
        ("test2id.txt", None, "test2id.txt: is missing"),
    ],
)
def test_what_cannot_be_read_is_named(folder: Path, name: str, text: str | None, said: str) -> None:
    if text is None:
        (folder / name).unlink()
    else:
        (folder / name).write_text(text)
    with pytest.raises(DataError) as error:
        read_dataset(str(folder))
    assert said in str(error.value)
