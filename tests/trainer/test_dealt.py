import json
from pathlib import Path

import pytest

from trainer import dealt
from trainer.dealt import require_free, write_dealt
from trainer.graph import DataError, Parts, read_folder
from trainer.statistics import Origin
from trainer.texts import Text, Texts, read_texts

CLIENTS: list[Parts] = [
    {"train": [("a", "r", "b")], "valid": [("b", "r", "a")], "test": []},
    {"train": [("b", "s", "c")], "valid": [], "test": [("c", "s", "b")]},
]
TEXTS = Texts({name: Text(name.upper()) for name in "abcd"}, {"s": Text("S", "said of s")})


def test_each_client_has_a_folder_to_join_with_and_its_own_texts(tmp_path: Path) -> None:
    write_dealt(tmp_path / "new", CLIENTS, TEXTS, Origin(source="toy"))
    assert {path.name for path in (tmp_path / "new").iterdir()} == {"client_0", "client_1", "statistics.json"}
    for name, parts in zip(("client_0", "client_1"), CLIENTS, strict=True):
        graph = read_folder(tmp_path / "new" / name)
        assert {split: graph.named(split) for split in graph.triples} == parts
    assert not (tmp_path / "new" / "client_0" / "relations.tsv").exists()
    assert read_texts(tmp_path / "new" / "client_1") == Texts(
        {"b": Text("B"), "c": Text("C")}, {"s": Text("S", "said of s")}
    )


def test_the_statistics_that_are_returned_are_written(tmp_path: Path) -> None:
    statistics = write_dealt(tmp_path, CLIENTS, Texts(), Origin(source="toy", seed=4))
    assert json.loads((tmp_path / "statistics.json").read_text()) == statistics.model_dump()
    assert statistics.seed == 4


@pytest.mark.parametrize("place", ["client_1/train.tsv", "client_0/valid.tsv", "statistics.json", "client_1"])
def test_nothing_is_written_over(tmp_path: Path, place: str) -> None:
    (tmp_path / place).parent.mkdir(exist_ok=True)
    (tmp_path / place).write_text("")
    with pytest.raises(DataError, match="is there already; give --out another folder"):
        require_free(tmp_path, 2)


def test_other_things_in_the_folder_and_empty_folders_are_no_hindrance(tmp_path: Path) -> None:
    (tmp_path / "client_0").mkdir()
    (tmp_path / "notes").write_text("mine")
    require_free(tmp_path, 2)
    write_dealt(tmp_path, CLIENTS, Texts(), Origin(source="toy"))
    assert (tmp_path / "notes").read_text() == "mine"
    assert read_folder(tmp_path / "client_0").named("train") == [("a", "r", "b")]


def test_an_interrupted_deal_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = []

    def interrupt(folder: Path, *rest: object) -> None:
        written.append(folder)
        if len(written) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(dealt, "write_texts", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_dealt(tmp_path, CLIENTS, TEXTS, Origin(source="toy"))
    assert not list(tmp_path.iterdir())


def test_what_a_killed_deal_left_is_no_hindrance(tmp_path: Path) -> None:
    (tmp_path / ".dealt.tmp" / "client_7").mkdir(parents=True)
    write_dealt(tmp_path, CLIENTS, Texts(), Origin(source="toy"))
    assert {path.name for path in tmp_path.iterdir()} == {"client_0", "client_1", "statistics.json"}


def test_a_name_that_tsv_cannot_hold_leaves_nothing(tmp_path: Path) -> None:
    bad: Parts = {"train": [("a\tb", "r", "c")], "valid": [], "test": []}
    with pytest.raises(DataError, match="cannot be written as TSV"):
        write_dealt(tmp_path, [CLIENTS[0], bad], Texts(), Origin(source="toy"))
    assert not list(tmp_path.iterdir())
