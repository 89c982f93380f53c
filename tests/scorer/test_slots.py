import numpy as np
import pytest

from protocol.encoding import EncodeHeader
from protocol.messages import RowText, Slot
from protocol.problems import InvalidRequest
from services.scorer.requests import ScoreCall, Slots, SlotText
from services.scorer.slots import integers, json_slots, spelled, tensor_slots

VECTORS = np.array([[[1.005, -2], [3, 4]], [[5, 6], [7, 8]], [[9, 10], [11, 12]]], dtype="f4")


def rows(slots: Slots) -> list[list[list[float]]]:
    """The vectors that stand in each row's prompt."""
    return [
        slots.vectors[start : start + count].tolist()
        for start, count in zip(slots.starts.tolist(), slots.counts.tolist(), strict=True)
    ]


def test_rows_of_text_of_vectors_and_of_both_come_out_of_either_form() -> None:
    spoken = json_slots(
        "entities",
        [
            Slot(name="gout", vectors=VECTORS[0].tolist()),
            Slot(name="an ache", description="that lasts"),
            Slot(vectors=VECTORS[2].tolist()),
        ],
        2,
    )
    texts = {0: RowText(name="gout"), 1: RowText(name="an ache", description="that lasts", text_only=True)}
    sent = tensor_slots("entities", {"entities": VECTORS}, EncodeHeader(entity_texts=texts), 2)
    assert rows(spoken) == rows(sent) == [VECTORS[0].tolist(), [], VECTORS[2].tolist()]
    assert spoken.texts == sent.texts == {0: SlotText("gout"), 1: SlotText("an ache", "that lasts")}
    assert spoken.vectors.dtype == sent.vectors.dtype == np.float32
    assert len(sent.vectors) == 6  # a gradient comes back for what was sent, also where it is in no prompt
    assert len(spoken) == len(sent) == 3


def test_texts_alone_are_the_rows() -> None:
    header = EncodeHeader(relation_texts={1: RowText(name="b"), 0: RowText(name="a")})
    slots = tensor_slots("relations", {}, header, 2)
    assert rows(slots) == [[], []]
    assert slots.texts == {0: SlotText("a"), 1: SlotText("b")}
    assert slots.vectors.shape == (0, 2)
    assert len(tensor_slots("entities", {}, header, 2)) == 0


@pytest.mark.parametrize(("texts", "given"), [({0: "a", 2: "c"}, {}), ({3: "d"}, {"entities": VECTORS})])
def test_a_text_that_belongs_to_no_row_is_refused(texts: dict[int, str], given: dict[str, np.ndarray]) -> None:
    header = EncodeHeader(entity_texts={row: RowText(name=name) for row, name in texts.items()})
    with pytest.raises(InvalidRequest) as refusal:
        tensor_slots("entities", given, header, 2)
    assert refusal.value.errors[0].field == f"message.entity_texts.{max(texts)}"


@pytest.mark.parametrize("vectors", [[[1.0]], [[1.0, 2.0, 3.0]], [[1.0, 2.0], [1.0]], [[]]])
def test_a_vector_of_another_size_is_refused_by_its_row(vectors: list[list[float]]) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        json_slots("relations", [Slot(name="a"), Slot(vectors=vectors)], 2)
    assert refusal.value.errors[0].field == "relations.1.vectors"


def test_where_vectors_are_only_written_out_their_size_is_free_but_one() -> None:
    assert json_slots("entities", [Slot(vectors=[[1.0, 2.0, 3.0]])], None).vectors.shape == (1, 3)
    with pytest.raises(InvalidRequest) as refusal:
        json_slots("entities", [Slot(vectors=[[1.0, 2.0]]), Slot(vectors=[[1.0]])], None)
    assert refusal.value.errors[0].field == "entities.1.vectors"


def test_vectors_as_numbers_become_text_rounded_to_hundredths() -> None:
    entities = json_slots("entities", [Slot(name="x", vectors=VECTORS[0].tolist()), Slot(name="y")], 2)
    relations = json_slots("relations", [Slot(vectors=[[0.004, -0.126]])], 2)
    call = ScoreCall(entities, relations, np.zeros((1, 3), dtype=np.int64))
    assert spelled(call, "input") is call
    found = spelled(call, "numbers")
    assert found.entities.texts == {0: SlotText("x", None, "[1.00, -2.00] [3.00, 4.00]"), 1: SlotText("y")}
    assert found.relations.texts == {0: SlotText(None, None, "[0.00, -0.13]")}
    assert rows(found.entities) == [[], []]
    assert len(found.entities.vectors) == len(found.relations.vectors) == 0


def test_whole_numbers_of_any_size_are_read_or_refused() -> None:
    assert integers("triples", [(0, 1, 2), (3, 4, 5)], 3).tolist() == [[0, 1, 2], [3, 4, 5]]
    assert integers("groups", [7, 7], 1, 2)[:, 0].tolist() == [7, 7]
    for given, count in (([1 << 63], 1), ([1], 2)):
        with pytest.raises(InvalidRequest) as refusal:
            integers("groups", given, 1, count)
        assert refusal.value.errors[0].field == "groups"
