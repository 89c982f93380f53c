from pathlib import Path

import numpy as np
import pytest

from protocol.messages import HEAD, TAIL
from protocol.rounds import Mode
from protocol.trainings import InteractionName
from trainer.fusion import Fusion
from trainer.graph import Graph
from trainer.interactions import interaction_of
from trainer.local import fresh_model
from trainer.model import Model
from trainer.saved import ModelMissing, read_card, read_model, save_fusion, save_model
from trainer.slot_texts import SlotTexts
from trainer.texts import Text

from .support import queries, small_settings

ASKED = queries((0, 0, TAIL), (1, 1, HEAD))


def saved(folder: Path, graph: Graph, mode: Mode, name: InteractionName = "transe", seed: int = 0) -> Model:
    settings = small_settings(name)
    model = fresh_model(graph, interaction_of(name), settings, seed)
    save_model(folder / mode, graph, mode, settings, model.state())
    return model


@pytest.mark.parametrize("name", ["transe", "complex", "mlp"])
def test_a_model_scores_the_same_after_being_saved(tmp_path: Path, small: Graph, name: InteractionName) -> None:
    model = saved(tmp_path, small, "isolation", name)
    again = read_model(tmp_path / "isolation", None)
    np.testing.assert_array_equal(again.scorer(ASKED), model.rank_scores(ASKED))
    card = again.card
    assert (card.mode, card.settings) == ("isolation", small_settings(name))
    assert (card.entities, card.relations) == (small.entities, small.relations)


def test_a_fusion_scores_the_same_after_being_saved_also_elsewhere(tmp_path: Path, small: Graph) -> None:
    home = tmp_path / "home"
    models = [saved(home, small, "isolation", seed=0), saved(home, small, "federation", seed=1)]
    fusion = Fusion(np.array([[0.1, 2], [3, -0.7]], dtype=np.float32))
    save_fusion(home / "fusion", small, small_settings("transe"), fusion)
    expected = fusion.scorer(*(model.rank_scores for model in models))(ASKED)
    home.rename(tmp_path / "moved")
    again = read_model(tmp_path / "moved" / "fusion", None)
    assert again.card.mode == "fusion"
    np.testing.assert_array_equal(again.scorer(ASKED), expected)


def test_a_folder_without_a_model_says_where_models_are(tmp_path: Path) -> None:
    with pytest.raises(ModelMissing, match="nowhere: holds no model") as error:
        read_card(tmp_path / "nowhere")
    assert "--home" in str(error.value)
    assert "--out" in str(error.value)


def test_a_fusion_without_its_parts_names_the_missing_one(tmp_path: Path, small: Graph) -> None:
    saved(tmp_path, small, "isolation")
    save_fusion(tmp_path / "fusion", small, small_settings("transe"), Fusion(np.ones((2, 2), dtype=np.float32)))
    with pytest.raises(ModelMissing, match="federation: holds no model"):
        read_model(tmp_path / "fusion", None)


def test_a_model_without_numbers_or_with_broken_ones_is_named(tmp_path: Path, small: Graph) -> None:
    saved(tmp_path, small, "isolation")
    numbers = tmp_path / "isolation" / "model.safetensors"
    numbers.write_bytes(numbers.read_bytes()[:-4])
    with pytest.raises(ModelMissing, match=r"model\.safetensors"):
        read_model(tmp_path / "isolation", None)
    numbers.unlink()
    with pytest.raises(ModelMissing, match=r"model\.safetensors: missing"):
        read_model(tmp_path / "isolation", None)


@pytest.mark.parametrize("content", ["", "{}", '{"mode": "fusion"'])
def test_a_description_that_is_none_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "model.json").write_text(content)
    with pytest.raises(ModelMissing, match=r"model\.json: not the description of a model"):
        read_card(tmp_path)


def test_what_the_scorer_is_told_stands_in_the_description(tmp_path: Path, small: Graph) -> None:
    texts = SlotTexts([Text("a", "of a"), Text("b")], [Text("r")])
    model = fresh_model(small, interaction_of("transe"), small_settings("transe"), 0)
    save_model(tmp_path, small, "isolation", small_settings("transe"), model.state(), texts)
    assert read_card(tmp_path).texts == texts
    save_fusion(tmp_path, small, small_settings("transe"), Fusion(np.ones((2, 2), dtype=np.float32)))
    assert read_card(tmp_path).texts is None


def test_nothing_half_written_is_left(tmp_path: Path, small: Graph) -> None:
    saved(tmp_path, small, "isolation")
    assert {path.name for path in (tmp_path / "isolation").iterdir()} == {"model.json", "model.safetensors"}


def test_numbers_of_another_model_are_refused(tmp_path: Path, small: Graph, umls: Graph) -> None:
    saved(tmp_path, small, "isolation")
    saved(tmp_path / "other", umls, "isolation")
    numbers = tmp_path / "other" / "isolation" / "model.safetensors"
    numbers.replace(tmp_path / "isolation" / "model.safetensors")
    with pytest.raises(ModelMissing, match="does not belong"):
        read_model(tmp_path / "isolation", None)
