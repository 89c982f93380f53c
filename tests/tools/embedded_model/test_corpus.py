import tarfile
from pathlib import Path

import pytest

from tools.embedded_model.corpus import BadCorpus, Entry, read, split

from .corpora import entries, write


def test_a_file_and_an_archive_of_it_are_read_alike(tmp_path: Path) -> None:
    path = write(tmp_path / "corpus.tsv", entries())
    with tarfile.open(tmp_path / "corpus.tar.gz", "w:gz") as archive:
        archive.add(path, "folder/corpus.tsv")
    assert read(path) == read(tmp_path / "corpus.tar.gz") == entries()


def test_a_line_told_twice_counts_once_and_spaces_are_one(tmp_path: Path) -> None:
    path = tmp_path / "corpus.tsv"
    path.write_text("a\tGout\tan  ache\na\tGout\tan ache \n\nb\tGout\tan ache\n", encoding="utf-8")
    assert read(path) == [Entry("a", "Gout", "an ache"), Entry("b", "Gout", "an ache")]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"a\tGout\tan ache\na\tGout\n", "line 2"),
        (b"a\t\tan ache\n", "line 1"),
        (b"", "has no lines"),
        (b"a\tGout\t\xff\n", "UTF-8"),
    ],
)
def test_what_is_no_corpus_is_refused_with_its_place(tmp_path: Path, content: bytes, told: str) -> None:
    (tmp_path / "corpus.tsv").write_bytes(content)
    with pytest.raises(BadCorpus, match=told):
        read(tmp_path / "corpus.tsv")


def test_a_missing_file_and_an_archive_of_two_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadCorpus, match="absent"):
        read(tmp_path / "absent.tsv")
    with tarfile.open(tmp_path / "two.tar", "w") as archive:
        for name in ("a", "b"):
            archive.add(write(tmp_path / name, entries(3)), name)
    with pytest.raises(BadCorpus, match="2 files"):
        read(tmp_path / "two.tar")


def test_all_texts_of_a_title_are_on_one_side_of_the_split() -> None:
    train, held_out = split(entries(3_000))
    assert {e.title for e in train}.isdisjoint(e.title for e in held_out)
    assert sorted([*train, *held_out], key=str) == sorted(entries(3_000), key=str)
    assert 0.005 < len(held_out) / len(train) < 0.05
