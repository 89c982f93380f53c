import pickle
from pathlib import Path

import numpy as np
import pytest

from trainer.formats import fede
from trainer.formats.fede import read_fede
from trainer.graph import DataError

Part = dict[str, np.ndarray]


def part(*triples: tuple[int, int, int]) -> Part:
    """Arrays as FedE's data have them: columns of one array, transposed."""
    rows = np.array(triples, dtype=np.int64).reshape(-1, 3)
    return {
        "edge_index": np.zeros((2, len(rows)), np.int64),
        "edge_type": np.zeros(len(rows), np.int64),
        "edge_index_ori": rows[:, [0, 2]].T,
        "edge_type_ori": rows[:, 1].T,
    }


def client(first: int) -> dict[str, Part]:
    return {"train": part((first, 0, 7), (7, 1, first)), "valid": part((first, 1, 7)), "test": part()}


def written(folder: Path, content: object, protocol: int = 4) -> Path:
    path = folder / "toy-Fed2.pkl"
    path.write_bytes(pickle.dumps(content, protocol))
    return path


@pytest.mark.parametrize("protocol", [3, 4, 5])
def test_the_shared_numbers_become_the_names(tmp_path: Path, protocol: int) -> None:
    assert read_fede(written(tmp_path, [client(3), client(70_000)], protocol)) == [
        {"train": [(a, "0", "7"), ("7", "1", a)], "valid": [(a, "1", "7")], "test": []} for a in ("3", "70000")
    ]


def test_other_integers_and_byte_orders_are_read_alike(tmp_path: Path) -> None:
    other = client(3)
    other["train"] |= {"edge_type_ori": other["train"]["edge_type_ori"].astype(">i4")}
    other["valid"] |= {"edge_index_ori": np.ascontiguousarray(other["valid"]["edge_index_ori"], dtype=np.uint8)}
    assert read_fede(written(tmp_path, [other])) == read_fede(written(tmp_path, [client(3)]))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ([], "it holds no list of clients"),
        ({"train": part()}, "it holds no list of clients"),
        ([client(1), {"train": part(), "valid": part()}], "client 1 is no dict of train, valid and test"),
        ([client(1) | {"test": {"edge_index": part()["edge_index"]}}], "client 0, test: edge_index_ori is missing"),
        ([client(1), client(2) | {"train": part()}], "client 1 has no triple to train on"),
        ([client(1), {"train": part(), "valid": part(), "test": part()}], "client 1 has no triple to train on"),
        (
            [client(1) | {"train": part((1, 2, 3)) | {"edge_type_ori": np.zeros(2, np.int64)}}],
            r"client 0, train: edge_index_ori should be \[2, t\] and edge_type_ori \[t\]",
        ),
    ],
)
def test_what_is_no_data_set_of_fedes_is_named(tmp_path: Path, content: object, said: str) -> None:
    with pytest.raises(DataError, match=f"toy-Fed2.pkl: is no data set of FedE's that can be read: {said}"):
        read_fede(written(tmp_path, content))


def test_a_file_beyond_the_bound_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path, [client(3)])
    monkeypatch.setattr(fede, "MAX_BYTES", path.stat().st_size)
    assert len(read_fede(path)) == 1
    monkeypatch.setattr(fede, "MAX_BYTES", path.stat().st_size - 1)
    with pytest.raises(DataError, match="is larger than"):
        read_fede(path)
