import json
from pathlib import Path
from typing import Any

import pytest
import torch

from services.scorer.model.loading import LoadError, load
from services.scorer.settings import Settings

from ..serving import fails_to_start
from .checkpoints import logits, write


def edit_config(folder: Path, drop: str = "", **entries: Any) -> None:
    config = json.loads((folder / "config.json").read_text())
    config.pop(drop, None)
    (folder / "config.json").write_text(json.dumps(config | entries))


def refusal(**settings: Any) -> str:
    with pytest.raises(LoadError) as caught:
        load(Settings(**settings))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_random_model_is_frozen() -> None:
    loaded = load(Settings(model="random"))
    assert not loaded.model.training
    assert not any(weight.requires_grad for weight in loaded.model.parameters())
    assert len(loaded.revision) == 64


def test_the_random_model_keeps_its_revision_in_any_dtype() -> None:
    loaded = {dtype: load(Settings(model="random", dtype=dtype)) for dtype in ("auto", "float32", "bfloat16")}
    assert len({one.revision for one in loaded.values()}) == 1
    assert {weight.dtype for weight in loaded["bfloat16"].model.parameters()} == {torch.bfloat16}
    assert loaded["bfloat16"].model.dtype == torch.bfloat16


@pytest.mark.skipif(torch.cuda.is_available(), reason="on a GPU, auto is bfloat16")
def test_on_the_cpu_weights_are_float32_by_default(tmp_path: Path) -> None:
    write(tmp_path / "model", dtype=torch.bfloat16)
    assert load(Settings(model=str(tmp_path / "model"))).model.dtype == torch.float32


@pytest.mark.parametrize("setting", ["quantization", "device_map"])
def test_the_random_model_is_not_quantised_or_spread(setting: str) -> None:
    pytest.importorskip("accelerate")
    value = {"quantization": "4bit", "device_map": "auto"}[setting]
    message = refusal(model="random", **{setting: value})
    assert f"SCORER_{setting.upper()}" in message
    assert "unset" in message


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("kv_heads", [1, 2, 4])
@pytest.mark.parametrize("shards", ["5GB", "40KB"])
def test_a_folder_is_the_model_that_was_saved(tmp_path: Path, shards: str, kv_heads: int, tied: bool) -> None:
    model = write(tmp_path / "model", shards, num_key_value_heads=kv_heads, tie_word_embeddings=tied)
    assert (len(list((tmp_path / "model").glob("*.safetensors"))) > 1) == (shards == "40KB")
    loaded = load(Settings(model=str(tmp_path / "model"), device="cpu")).model
    assert torch.equal(logits(loaded), logits(model))
    assert (loaded.get_output_embeddings().weight is loaded.get_input_embeddings().weight) == tied


LLAMA3 = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 16}
ROPES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    # What the library makes of the model itself, and how config.json was written at the time of Llama 2 and 3.
    "default": ({"rope_type": "default"}, {"rope_theta": 500.0}),
    "null": ({"rope_type": "default"}, {"rope_theta": 500.0, "rope_scaling": None}),
    "linear": (
        {"rope_type": "linear", "factor": 2.0},
        {"rope_theta": 500.0, "rope_scaling": {"type": "linear", "factor": 2.0}},
    ),
    "llama3": (
        {"rope_type": "llama3", **LLAMA3},
        {"rope_theta": 500.0, "rope_scaling": {"rope_type": "llama3", **LLAMA3}},
    ),
    "yarn": (
        {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64},
        {
            "rope_theta": 500.0,
            "rope_scaling": {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64},
        },
    ),
}


@pytest.mark.parametrize("rope", ROPES)
def test_rotation_as_older_and_newer_configurations_write_it(tmp_path: Path, rope: str) -> None:
    parameters, legacy = ROPES[rope]
    model = write(tmp_path / "model", rope_parameters={"rope_theta": 500.0, **parameters})
    settings = Settings(model=str(tmp_path / "model"), device="cpu")
    assert torch.equal(logits(load(settings).model), logits(model))
    edit_config(tmp_path / "model", drop="rope_parameters", **legacy)
    assert torch.equal(logits(load(settings).model), logits(model))


@pytest.mark.parametrize("model", ["random", "folder"])
def test_late_positions_are_turned_by_exact_angles_in_any_dtype(tmp_path: Path, model: str) -> None:
    write(tmp_path / "folder")
    path = model if model == "random" else str(tmp_path / "folder")
    decoder = load(Settings(model=path, dtype="bfloat16", device="cpu")).model.model
    head_dim, positions = decoder.layers[0].self_attn.head_dim, torch.tensor([[3, 200, 1999]])
    cos, _ = decoder.rotary_emb(torch.zeros(1, dtype=torch.float32), positions)
    angles = positions[0, :, None] * 10_000.0 ** -(torch.arange(0, head_dim, 2, dtype=torch.float64) / head_dim)
    assert torch.allclose(cos[0, :, : head_dim // 2].double(), angles.cos(), atol=1e-3)


def test_a_tokenizer_without_a_pad_token(tmp_path: Path) -> None:
    write(tmp_path / "model", pad=False)
    tokenizer = load(Settings(model=str(tmp_path / "model"))).tokenizer
    assert tokenizer.pad_token is None
    assert tokenizer("yes", add_special_tokens=False)["input_ids"]


def test_a_folder_is_told_by_its_weights(tmp_path: Path) -> None:
    for layers in (1, 2):
        write(tmp_path / str(layers), num_hidden_layers=layers)
    revisions = [load(Settings(model=str(tmp_path / name))).revision for name in ("1", "1", "2")]
    assert revisions[0] == revisions[1] != revisions[2]
    half = load(Settings(model=str(tmp_path / "2"), dtype="bfloat16"))
    assert half.revision == revisions[2]


def test_neither_a_folder_nor_a_hub_id(tmp_path: Path) -> None:
    assert "not a hub id" in refusal(model=str(tmp_path / "absent"))


def test_a_server_without_a_model_ends_with_one_clear_line(tmp_path: Path) -> None:
    status, log = fails_to_start(tmp_path, SCORER_MODEL=str(tmp_path / "absent"))
    assert status != 0
    assert "Traceback" not in log
    assert len([line for line in log.splitlines() if "SCORER_MODEL" in line]) == 1
