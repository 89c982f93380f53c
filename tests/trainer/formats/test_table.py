from pathlib import Path

import pytest

from trainer.dataset import read_dataset
from trainer.formats.table import Columns, read_table
from trainer.graph import DataError

TRIPLES = [("aspirin", "treats", "headache"), ("aspirin", "causes", "nausea")]


def file(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8", newline="")
    return path


def test_three_columns_need_no_choice(tmp_path: Path) -> None:
    path = file(tmp_path, "all.tsv", "aspirin\ttreats\theadache\n\naspirin\tcauses\tnausea\r\n")
    assert read_table(path) == TRIPLES


@pytest.mark.parametrize("columns", ["4,3,1", "subject,predicate,object", " subject , predicate,object"])
def test_columns_are_chosen_by_position_or_by_name(tmp_path: Path, columns: str) -> None:
    header = "" if columns[0].isdecimal() else "object\tdate\tpredicate\tsubject\n"
    text = header + "headache\t1899\ttreats\taspirin\nnausea\t\tcauses\taspirin\tmore\n"
    assert read_table(file(tmp_path, "export.txt", text), Columns.parse(columns)) == TRIPLES


def test_a_csv_may_quote_what_it_holds(tmp_path: Path) -> None:
    text = '\ufeffs,p,o\r\n"Paris, Texas","is ""in""",Texas\r\n\r\nx,p,"two\nlines"\r\n'
    path = file(tmp_path, "export.csv", text)
    assert read_table(path, Columns.parse("s,p,o")) == [
        ("Paris, Texas", 'is "in"', "Texas"),
        ("x", "p", "two\nlines"),
    ]


@pytest.mark.parametrize(
    ("name", "text", "columns", "said"),
    [
        ("a.tsv", "a\tr\tb\tc\n", None, "a.tsv:1: 4 columns; `tripleherd split"),
        ("a.tsv", "a\tr\tb\n\na\tr\n", None, "a.tsv:3: expected head, relation, tail, separated by tabs"),
        ("a.csv", "a,r,b\na,,b\n", None, "a.csv:2: expected head, relation, tail, separated by commas"),
        ("a.tsv", "a\tr\tb\n", "1,2,4", "a.tsv:1: expected head, relation, tail"),
        ("a.tsv", "h\tr\tt\n", "h,r,tail", "a.tsv: its header line has no column 'tail', but h, r, t"),
        ("a.tsv", "", "h,r,t", "a.tsv: its header line has no column 'h'"),
        ("a.csv", 'a,r,"b\n', None, "a.csv:1: unexpected end of data"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path: Path, name: str, text: str, columns: str | None, said: str) -> None:
    with pytest.raises(DataError) as error:
        read_table(file(tmp_path, name, text), Columns.parse(columns) if columns else None)
    assert said in str(error.value)


def test_a_csv_that_is_no_text_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"a,r,\xff\xfe\n")
    with pytest.raises(DataError, match=r"a\.csv: not a UTF-8"):
        read_table(tmp_path / "a.csv")


@pytest.mark.parametrize("text", ["1,2", "1,2,3,4", "a,,b", "a,b,a", "0,1,2", "00,1,2"])
def test_columns_that_are_not_three_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="give three columns"):
        Columns.parse(text)


def test_a_file_is_a_graph_whose_triples_are_all_trained_on(tmp_path: Path) -> None:
    graph = read_dataset(str(file(tmp_path, "all.csv", "a,r,b\nb,r,c\n")))
    assert graph.named("train") == [("a", "r", "b"), ("b", "r", "c")]
    assert not len(graph.triples["valid"])


def test_columns_of_a_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="--columns is for one file"):
        read_dataset(str(tmp_path), Columns.parse("1,2,3"))
