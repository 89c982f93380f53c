from pathlib import Path

import pytest

from protocol.trainings import LocalSettings, ScorerIdentity, TrainingSettings
from trainer.graph import DataError, Graph
from trainer.prompting import prompting_of
from trainer.texts import Text

SCORER = ScorerIdentity(model="m", revision="r", dtype="float32", query_hash="q", hidden=4, description_tokens=9)
GRAPH = Graph.from_names({"train": [("a", "r", "b"), ("b", "r", "c")]})


def asking(**local: object) -> TrainingSettings:
    return TrainingSettings(interaction="llama", scorer=SCORER, local=LocalSettings.model_validate(local))


@pytest.fixture
def folders(tmp_path: Path) -> list[str]:
    for name, lines in (("one", "a\tan a\tthe first\n"), ("two", "a\tno a\nb\ta b\n")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "entities.tsv").write_text(lines)
    (tmp_path / "two" / "relations.tsv").write_text("r\tthen\n")
    return [str(tmp_path / "one"), str(tmp_path / "two"), "umls"]


def test_texts_come_from_the_folders_of_the_data_the_first_of_an_id_counts(folders: list[str], tmp_path: Path) -> None:
    said: list[str] = []
    texts = prompting_of(asking(texts="descriptions"), GRAPH, folders, tmp_path, said.append, print).texts
    assert said == [
        "labels of 2 of 3 entities and 1 of 1 relations, where ids stand for the others; descriptions of 1 entities"
    ]
    assert texts is not None
    assert texts.entities == [Text("an a", "the first"), Text("a b"), Text("c")]
    assert texts.relations == [Text("then")]
    named = prompting_of(asking(texts="names"), GRAPH, folders, tmp_path, print, print).texts
    assert named is not None
    assert named.entities == [Text("an a"), Text("a b"), Text("c")]


def test_a_training_without_words_reads_no_texts(folders: list[str], tmp_path: Path) -> None:
    (tmp_path / "one" / "entities.tsv").write_text("too few fields\n")
    with pytest.raises(DataError, match=r"entities\.tsv:1: expected"):
        prompting_of(asking(texts="names"), GRAPH, folders, tmp_path, print, print)
    said: list[str] = []
    for local in ({}, {"texts": "anonymised"}):
        prompting_of(asking(**local), GRAPH, folders, tmp_path, said.append, print)
    assert not said


def test_states_are_kept_where_words_stand_alone(folders: list[str], tmp_path: Path) -> None:
    assert prompting_of(asking(texts="names"), GRAPH, folders, tmp_path, print, print).states is None
    alone = prompting_of(asking(texts="names", vectors=False), GRAPH, folders, tmp_path, print, print).states
    assert alone is not None
    assert alone.parent == tmp_path
