from pathlib import Path

import numpy as np
import pytest

from trainer.graph import DataError, Graph, read_folder, read_tsv, write_folder

NAMED = {
    "train": [("b", "likes", "a"), ("a", "likes", "c"), ("b", "likes", "a")],
    "valid": [("c", "likes", "b"), ("c", "likes", "stranger"), ("c", "hates", "b")],
    "test": [("a", "likes", "a"), ("stranger", "likes", "a"), ("stranger", "likes", "a")],
}


def test_names_become_sorted_indices() -> None:
    graph = Graph.from_names(NAMED)
    assert graph.entities == ["a", "b", "c"]
    assert graph.relations == ["likes"]
    assert graph.train.tolist() == [[1, 0, 0], [0, 0, 2]]
    assert graph.triples["valid"].tolist() == [[2, 0, 1]]
    assert all(rows.dtype == np.int64 for rows in graph.triples.values())


def test_held_out_triples_that_training_cannot_know_are_counted_not_ranked() -> None:
    assert Graph.from_names(NAMED).left_out == {"train": 0, "valid": 2, "test": 1}


def test_what_stands_there_twice_is_counted_within_and_across_splits() -> None:
    named = {"train": NAMED["train"], "valid": [*NAMED["valid"], NAMED["train"][0]], "test": NAMED["test"]}
    graph = Graph.from_names(named)
    assert (graph.repeated, graph.in_training) == (2, 1)
    reordered = graph.in_order(graph.entities[::-1], graph.relations)
    assert (reordered.repeated, reordered.in_training) == (2, 1)


def test_named_gives_back_the_words() -> None:
    assert Graph.from_names(NAMED).named("train") == [("b", "likes", "a"), ("a", "likes", "c")]


def test_missing_splits_are_empty_tables_of_three_columns() -> None:
    graph = Graph.from_names({"train": NAMED["train"]})
    assert graph.triples["valid"].shape == graph.triples["test"].shape == (0, 3)


def test_a_training_split_without_triples_is_refused() -> None:
    with pytest.raises(DataError, match="no triple"):
        Graph.from_names({"train": [], "test": NAMED["test"]})


def test_a_folder_comes_back_as_it_was_written(tmp_path: Path) -> None:
    named = {
        "train": [("Ωmega 3", "acts on", "a b"), ("a b", "acts on", "x\u2028y")],
        "valid": [("a b", "acts on", "Ωmega 3")],
    }
    write_folder(tmp_path / "new", named)
    graph = read_folder(tmp_path / "new")
    assert {split: graph.named(split) for split in graph.triples} == named | {"test": []}


def test_blank_lines_and_windows_line_ends_are_read_over(tmp_path: Path) -> None:
    (tmp_path / "train.tsv").write_bytes(b"a\tr\tb\r\n\r\n  \nb\tr\tc")
    assert read_folder(tmp_path).named("train") == [("a", "r", "b"), ("b", "r", "c")]


@pytest.mark.parametrize("line", ["a\tr", "a\tr\tb\tc", "a r b", "a\t\tb", "\tr\tb"])
def test_a_bad_line_is_named_by_file_and_number(tmp_path: Path, line: str) -> None:
    path = tmp_path / "train.tsv"
    path.write_text(f"a\tr\tb\n\n{line}\n")
    with pytest.raises(DataError) as error:
        read_tsv(path)
    assert str(error.value).startswith(f"{path}:3: ")


def test_a_file_that_is_no_text_is_named(tmp_path: Path) -> None:
    (tmp_path / "train.tsv").write_bytes(b"\xff\xfe\x00a")
    with pytest.raises(DataError, match=r"train\.tsv: not a UTF-8"):
        read_folder(tmp_path)


def test_a_missing_folder_or_training_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere: there is no such folder"):
        read_folder(tmp_path / "nowhere")
    (tmp_path / "test.tsv").write_text("a\tr\tb\n")
    with pytest.raises(DataError, match=r"train\.tsv is missing"):
        read_folder(tmp_path)


def test_a_byte_order_mark_is_no_part_of_a_name(tmp_path: Path) -> None:
    (tmp_path / "train.tsv").write_text("\ufeffa\tr\tb\n", encoding="utf-8")
    assert read_folder(tmp_path).entities == ["a", "b"]


@pytest.mark.parametrize("name", ["", "a\tb", "a\nb"])
def test_names_that_a_tsv_cannot_hold_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match="cannot be written as TSV"):
        write_folder(tmp_path, {"train": [("a", "r", name)]})
