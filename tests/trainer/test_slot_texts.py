import numpy as np
import pytest

from protocol.trainings import Dense, LocalSettings, ScorerIdentity, TrainingSettings
from trainer.graph import Graph
from trainer.slot_texts import SlotTexts, slot_texts
from trainer.texts import Text, Texts

SCORER = ScorerIdentity(model="m", revision="r", dtype="float32", query_hash="q", hidden=4, description_tokens=3)
GRAPH = Graph.from_names({"train": [(f"e_{i:02d}", "part_of", f"e_{i + 1:02d}") for i in range(30)]})
KNOWN = Texts(
    {"e_01": Text("one", "the first of them all"), "e_02": Text("two", "x" * 20_000), "e_03": Text(" ", "and")},
    {"part_of": Text("is part of", "holds the other")},
)


def said(texts: str, seed: int = 0) -> SlotTexts:
    settings = TrainingSettings(
        interaction="llama", scorer=SCORER, seed=seed, dense={"a": Dense(shape=[1])}, local=LocalSettings(texts=texts)
    )
    found = slot_texts(settings, GRAPH, KNOWN)
    assert found is not None
    return found


def test_nothing_is_said_unless_the_training_asks() -> None:
    settings = TrainingSettings(interaction="llama", scorer=SCORER)
    assert slot_texts(settings, GRAPH, KNOWN) is None
    assert slot_texts(TrainingSettings(interaction="transe", local=LocalSettings(texts="names")), GRAPH, KNOWN) is None


def test_names_are_labels_or_ids_made_readable() -> None:
    found = said("names")
    assert found.entities[:4] == [Text("e 00"), Text("one"), Text("two"), Text("e 03")]
    assert found.relations == [Text("is part of")]


def test_descriptions_are_cut_at_a_word_to_what_the_scorer_reads() -> None:
    found = said("descriptions")
    assert found.entities[:2] == [Text("e 00"), Text("one", "the first of")]
    assert found.entities[2] == Text("two", "x" * 10_000)  # no longer than a scorer takes
    assert found.relations == [Text("is part of", "holds the other")]


def test_reciprocal_relations_say_what_the_plain_ones_say() -> None:
    texts = SlotTexts([], [Text("r0"), Text("r1")])
    assert texts.of_relations([1, 3, 2]) == [Text("r1"), Text("r1"), Text("r0")]


def test_numbers_that_stand_for_names_say_nothing_of_them() -> None:
    found = said("anonymised")
    numbers = [int(text.label.removeprefix("entity ")) for text in found.entities]
    assert sorted(numbers) == list(range(1, 32))
    assert found.relations == [Text("relation 1")]
    assert abs(np.corrcoef(numbers, np.arange(31))[0, 1]) < 0.5  # the graph is in the order of the alphabet
    assert said("anonymised") == found
    assert said("anonymised", seed=1) != found


@pytest.mark.parametrize("kind", ["names", "descriptions", "anonymised"])
def test_the_digest_tells_texts_apart(kind: str) -> None:
    digests = {said(other).digest for other in ("names", "descriptions", "anonymised")}
    assert len(digests) == 3
    assert said(kind).digest in digests
