import json
from collections.abc import Callable
from pathlib import Path

import pytest
from transformers import MistralConfig

from .checkpoints import write
from .test_loading import edit_config, refusal


def no_folder_content(folder: Path) -> None:
    for file in folder.iterdir():
        file.unlink()


def unreadable_configuration(folder: Path) -> None:
    (folder / "config.json").write_text("{")


def a_configuration_that_is_no_object(folder: Path) -> None:
    (folder / "config.json").write_text("[]")


def another_architecture(folder: Path) -> None:
    MistralConfig().save_pretrained(folder)


def quantised_weights(folder: Path) -> None:
    edit_config(folder, quantization_config={"quant_method": "gptq", "bits": 4})


def rotation_by_length(folder: Path) -> None:
    edit_config(folder, drop="rope_parameters", rope_scaling={"type": "dynamic", "factor": 2.0})


def pickled_weights(folder: Path) -> None:
    for shard in list(folder.glob("*.safetensors")):
        shard.rename(folder / shard.name.replace("safetensors", "bin").replace("model", "pytorch_model"))
    (folder / "model.safetensors.index.json").rename(folder / "pytorch_model.bin.index.json")


def an_unreadable_index(folder: Path) -> None:
    (folder / "model.safetensors.index.json").write_text('{"weight_map": 3}')


def the_second_shard(folder: Path) -> Path:
    return sorted(folder.glob("*.safetensors"))[1]


def an_absent_shard(folder: Path) -> None:
    the_second_shard(folder).unlink()


def a_truncated_shard(folder: Path) -> None:
    weights = the_second_shard(folder).read_bytes()
    the_second_shard(folder).write_bytes(weights[: len(weights) // 2])


def an_empty_shard(folder: Path) -> None:
    the_second_shard(folder).write_bytes(b"")


def an_index_that_forgets_a_shard(folder: Path) -> None:
    index = folder / "model.safetensors.index.json"
    kept = {k: v for k, v in json.loads(index.read_text())["weight_map"].items() if v != the_second_shard(folder).name}
    index.write_text(json.dumps({"metadata": {}, "weight_map": kept}))


def a_layer_too_few(folder: Path) -> None:
    edit_config(folder, num_hidden_layers=3)


def another_width(folder: Path) -> None:
    edit_config(folder, intermediate_size=128)


def no_tokenizer(folder: Path) -> None:
    for file in folder.glob("tokenizer*"):
        file.unlink()


def an_unreadable_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").write_text("{}")


def a_tokenizer_made_by_code(folder: Path) -> None:
    no_tokenizer(folder)
    (folder / "made.py").write_text("raise SystemExit('this code has run')")
    (folder / "tokenizer_config.json").write_text('{"auto_map": {"AutoTokenizer": ["made.Tokenizer", null]}}')


@pytest.mark.parametrize(
    ("break_it", "words"),
    [
        (no_folder_content, ["config.json"]),
        (unreadable_configuration, ["config.json"]),
        (a_configuration_that_is_no_object, ["model"]),
        (another_architecture, ["'mistral'", "`llama` models only"]),
        (quantised_weights, ["quantised already", "SCORER_QUANTIZATION"]),
        (rotation_by_length, ["'dynamic'", "llama3"]),
        (pickled_weights, ["no *.safetensors"]),
        (a_layer_too_few, ["weights lack model.layers.2"]),
        (another_width, ["model.layers.0.mlp.down_proj.weight", "[64, 96]", "[64, 128]"]),
        (no_tokenizer, ["no readable tokenizer"]),
        (an_unreadable_tokenizer, ["no readable tokenizer"]),
        (a_tokenizer_made_by_code, ["no readable tokenizer", "custom code"]),
        (an_unreadable_index, ["model.safetensors.index.json", "fetch it again"]),
        (an_absent_shard, ["model-00002-of-", "not there", "fetch it again"]),
        (a_truncated_shard, ["model-00002-of-", "broken", "fetch it again"]),
        (an_empty_shard, ["model-00002-of-", "broken", "fetch it again"]),
        (an_index_that_forgets_a_shard, ["weights lack", "fetch it again"]),
    ],
)
def test_what_cannot_be_loaded_is_told_in_one_line(
    tmp_path: Path, break_it: Callable[[Path], None], words: list[str]
) -> None:
    folder = tmp_path / "the folder"
    write(folder, shards="40KB")
    break_it(folder)
    message = refusal(model=str(folder))
    assert all(word in message for word in [*words, "the folder"]), message
