from pathlib import Path

import pytest

from protocol import messages
from trainer.dataset import texts_of
from trainer.graph import DataError
from trainer.texts import MAX_DESCRIPTION, MAX_LABEL, Text, Texts, read_texts, write_texts

SHARED = Path(__file__).parents[3] / "shared" / "data"
ENTITIES = "Q100\tBoston\tThe capital of Massachusetts.\r\n\nQ7\tNile\t\nQ_9\t\tA lake.\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "entities.tsv").write_text(ENTITIES, encoding="utf-8", newline="")
    (tmp_path / "relations.tsv").write_text("P36\tcapital of\n", encoding="utf-8")
    return tmp_path


def test_ids_get_their_labels_and_descriptions_in_the_order_that_is_asked_for(folder: Path) -> None:
    entities, relations = read_texts(folder).of(["Q7", "Q100"], ["P36"])
    assert entities == [Text("Nile"), Text("Boston", "The capital of Massachusetts.")]
    assert relations == [Text("capital of")]


def test_what_has_no_label_is_called_by_its_id_made_readable(folder: Path) -> None:
    entities, relations = read_texts(folder).of(["Q_9", "age_group", "_"], ["part_of"])
    assert entities == [Text("Q 9", "A lake."), Text("age group"), Text("_")]
    assert relations == [Text("part of")]


def test_both_files_are_optional(tmp_path: Path) -> None:
    assert read_texts(tmp_path) == Texts()
    assert texts_of("umls") == Texts()


def test_texts_lie_in_a_folder_or_beside_a_file(folder: Path) -> None:
    (folder / "all.tsv").write_text("Q7\tP36\tQ100\n")
    assert texts_of(str(folder)) == texts_of(str(folder / "all.tsv")) == read_texts(folder)
    assert len(read_texts(folder).entities) == 3


def test_texts_of_all_lengths_are_what_a_scorer_takes(tmp_path: Path) -> None:
    (tmp_path / "entities.tsv").write_text(f"a\t{'l' * MAX_LABEL}\t{'d' * (MAX_DESCRIPTION + 5)}\n")
    texts = read_texts(tmp_path)
    for text in texts.of(["a", "i" * (MAX_LABEL + 5)], [])[0]:
        messages.Text(name=text.label, description=text.description)
    assert len(texts.entities["a"].description or "") == MAX_DESCRIPTION + 5


def test_a_line_that_stands_there_twice_is_read_once(folder: Path) -> None:
    before = read_texts(folder)
    with (folder / "relations.tsv").open("a", encoding="utf-8") as file:
        file.write("P36\tcapital of\n")
    assert read_texts(folder) == before


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("Q1\n", "entities.tsv:1: expected an id, its label and perhaps a description"),
        ("Q1\ta\tb\tc\n", "entities.tsv:1: expected an id"),
        ("Q1\ta\n\n\tb\n", "entities.tsv:3: expected an id"),
        ("Q1\ta\nQ2\tb\nQ1\tc\n", "entities.tsv:3: 'Q1' stands there twice, with other texts; keep one"),
        ("Q1\t" + "l" * 1001, "entities.tsv:1: a label of 1001 characters, where at most 1000 are taken"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "entities.tsv").write_text(text)
    with pytest.raises(DataError) as error:
        read_texts(tmp_path)
    assert said in str(error.value)


def test_a_client_gets_the_lines_of_its_own_ids_as_they_were(folder: Path, tmp_path: Path) -> None:
    write_texts(tmp_path / "client", read_texts(folder), ["Q100", "Q7", "unknown"], ["P1"])
    assert [path.name for path in (tmp_path / "client").iterdir()] == ["entities.tsv"]
    written = (tmp_path / "client" / "entities.tsv").read_text()
    assert written == "Q100\tBoston\tThe capital of Massachusetts.\nQ7\tNile\n"


def test_real_texts_are_read() -> None:
    if not SHARED.is_dir():
        pytest.skip("the sample graphs are not here")
    texts = read_texts(SHARED / "codex-s")
    (boston,), (field,) = texts.of(["Q100"], ["P101"])
    assert (boston.label, field.label) == ("Boston", "field of work")
    assert (len(texts.entities), len(texts.relations)) == (2034, 42)
