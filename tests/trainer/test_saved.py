from pathlib import Path

import numpy as np
import pytest

from protocol.messages import HEAD, TAIL
from protocol.rounds import Mode
from protocol.trainings import InteractionName
from trainer.fusion import Fusion
from trainer.graph import DataError, Graph
from trainer.interactions import interaction_of
from trainer.local import fresh_model
from trainer.model import Model
from trainer.saved import Card, ModelMissing, read_card, read_model, save_fusion, save_model
from trainer.slot_texts import SlotTexts
from trainer.texts import Text

from .support import queries, small_settings

ASKED = queries((0, 0, TAIL), (1, 1, HEAD))
EVEN = Fusion.of_shares(0.5, 0.5)


def saved(folder: Path, graph: Graph, mode: Mode, name: InteractionName = "transe", seed: int = 0) -> Model:
    settings = small_settings(name)
    model = fresh_model(graph, interaction_of(name), settings, seed)
    save_model(folder / mode, graph, mode, settings, model.state())
    return model


@pytest.mark.parametrize("name", ["transe", "complex", "mlp"])
def test_a_model_scores_the_same_after_being_saved(tmp_path: Path, small: Graph, name: InteractionName) -> None:
    model = saved(tmp_path, small, "isolation", name)
    again = read_model(tmp_path / "isolation")
    np.testing.assert_array_equal(again.scorer(ASKED), model.rank_scores(ASKED))
    card = again.card
    assert isinstance(card, Card)
    assert (card.mode, card.settings) == ("isolation", small_settings(name))
    assert (card.entities, card.relations) == (small.entities, small.relations)


def test_a_fusion_scores_the_same_after_being_saved_also_elsewhere(tmp_path: Path, small: Graph) -> None:
    home = tmp_path / "home"
    models = [saved(home, small, "isolation", seed=0), saved(home, small, "federation", seed=1)]
    fusion = Fusion(np.array([[0.1, 2], [3, -0.7]], dtype=np.float32))
    save_fusion(home / "fusion", small, fusion, (home / "isolation", home / "federation"))
    expected = fusion.scorer(*(model.rank_scores for model in models))(ASKED)
    home.rename(tmp_path / "moved")
    again = read_model(tmp_path / "moved" / "fusion")
    assert (again.card.mode, again.interaction, again.tie_tolerance) == ("fusion", "transe", 0.0)
    np.testing.assert_array_equal(again.scorer(ASKED), expected)


def test_a_folder_without_a_model_says_where_models_are(tmp_path: Path) -> None:
    with pytest.raises(ModelMissing, match="nowhere: holds no model") as error:
        read_card(tmp_path / "nowhere")
    assert "--home" in str(error.value)
    assert "--out" in str(error.value)


def test_a_fusion_without_its_parts_names_the_missing_one(tmp_path: Path, small: Graph) -> None:
    saved(tmp_path, small, "isolation")
    save_fusion(tmp_path / "fusion", small, EVEN, (tmp_path / "isolation", tmp_path / "federation"))
    with pytest.raises(ModelMissing, match="federation: holds no model"):
        read_model(tmp_path / "fusion")


def test_a_fusion_of_models_that_number_their_entities_otherwise(tmp_path: Path, small: Graph) -> None:
    turned = small.in_order(small.entities[::-1], small.relations[::-1])
    first, second = saved(tmp_path, small, "isolation"), saved(tmp_path, turned, "federation", "distmult", seed=1)
    save_fusion(tmp_path / "fusion", small, EVEN, (tmp_path / "isolation", tmp_path / "federation"))
    again = read_model(tmp_path / "fusion")
    assert again.interaction == "transe + distmult"
    last = (len(small.entities) - 1, len(small.relations) - 1)
    of_second = second.rank_scores(queries((last[0], last[1], TAIL), (last[0] - 1, last[1] - 1, HEAD)))[:, ::-1]
    expected = EVEN.scorer(first.rank_scores, lambda asked: of_second)(ASKED)
    np.testing.assert_allclose(again.scorer(ASKED), expected, atol=1e-6)


def test_a_fused_model_may_be_a_part_but_not_of_itself(tmp_path: Path, small: Graph) -> None:
    saved(tmp_path, small, "isolation")
    plain, inner, outer = tmp_path / "isolation", tmp_path / "inner", tmp_path / "outer"
    save_fusion(inner, small, EVEN, (plain, plain))
    save_fusion(outer, small, EVEN, (inner, plain))
    np.testing.assert_allclose(read_model(outer).scorer(ASKED), read_model(inner).scorer(ASKED), atol=1e-5)
    save_fusion(inner, small, EVEN, (plain, outer))
    with pytest.raises(ModelMissing, match="combines itself"):
        read_model(outer)


def test_a_fusion_of_models_of_other_graphs_is_refused(tmp_path: Path, small: Graph, umls: Graph) -> None:
    saved(tmp_path, small, "isolation")
    saved(tmp_path, umls, "federation")
    save_fusion(tmp_path / "fusion", umls, EVEN, (tmp_path / "isolation", tmp_path / "federation"))
    with pytest.raises(DataError, match="135 entities of the data are unknown to the model"):
        read_model(tmp_path / "fusion")


def test_a_model_without_numbers_or_with_broken_ones_is_named(tmp_path: Path, small: Graph) -> None:
    saved(tmp_path, small, "isolation")
    numbers = tmp_path / "isolation" / "model.safetensors"
    numbers.write_bytes(numbers.read_bytes()[:-4])
    with pytest.raises(ModelMissing, match=r"model\.safetensors"):
        read_model(tmp_path / "isolation")
    numbers.unlink()
    with pytest.raises(ModelMissing, match=r"model\.safetensors: missing"):
        read_model(tmp_path / "isolation")


@pytest.mark.parametrize("content", ["", "{}", '{"mode": "fusion"'])
def test_a_description_that_is_none_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "model.json").write_text(content)
    with pytest.raises(ModelMissing, match=r"model\.json: not the description of a model"):
        read_card(tmp_path)


def test_what_the_scorer_is_told_stands_in_the_description(tmp_path: Path, small: Graph) -> None:
    texts = SlotTexts([Text("a", "of a"), Text("b")], [Text("r")])
    model = fresh_model(small, interaction_of("transe"), small_settings("transe"), 0)
    save_model(tmp_path, small, "isolation", small_settings("transe"), model.state(), texts)
    card = read_card(tmp_path)
    assert isinstance(card, Card)
    assert card.texts == texts


def test_nothing_half_written_is_left(tmp_path: Path, small: Graph) -> None:
    saved(tmp_path, small, "isolation")
    assert {path.name for path in (tmp_path / "isolation").iterdir()} == {"model.json", "model.safetensors"}


def test_numbers_of_another_model_are_refused(tmp_path: Path, small: Graph, umls: Graph) -> None:
    saved(tmp_path, small, "isolation")
    saved(tmp_path / "other", umls, "isolation")
    numbers = tmp_path / "other" / "isolation" / "model.safetensors"
    numbers.replace(tmp_path / "isolation" / "model.safetensors")
    with pytest.raises(ModelMissing, match="does not belong"):
        read_model(tmp_path / "isolation")
