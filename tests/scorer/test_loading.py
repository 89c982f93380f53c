import json
from pathlib import Path

import pytest
import torch
from transformers import MistralConfig

from services.scorer.loading import LoadError, load
from services.scorer.settings import Settings

from .models import LLAMA3_ROPE, save, tiny
from .serving import fails_to_start, scorer


def test_the_embedded_model_is_frozen() -> None:
    loaded = load(Settings(model="embedded"))
    assert not loaded.model.training
    assert not any(weight.requires_grad for weight in loaded.model.parameters())
    assert len(loaded.revision) == 64


def test_a_dtype_is_honoured() -> None:
    half = load(Settings(model="embedded", dtype="bfloat16"))
    assert {weight.dtype for weight in half.model.parameters()} == {torch.bfloat16}
    assert half.revision == load(Settings(model="embedded")).revision


def test_a_folder_of_another_shape(tmp_path: Path) -> None:
    folder = save(tmp_path / "model", tiny(layers=3, kv_heads=1, rope=LLAMA3_ROPE, hidden=64))
    with scorer(tmp_path, SCORER_MODEL=str(folder)) as client:
        info = client.get("/info").json()
        assert (info["hidden"], info["layers"], info["limits"]["max_prompt_tokens"]) == (64, 3, 256)
        body = {"entities": [{"vectors": [[0.5] * 64]}], "relations": [{"name": "r"}], "queries": [[0, 0]]}
        assert len(client.post("/encode", json=body).json()["states"][0]) == 64


def test_a_folder_is_told_by_its_weights(tmp_path: Path) -> None:
    first, second = (save(tmp_path / str(n), tiny(layers=n)) for n in (1, 2))
    revisions = [load(Settings(model=str(folder))).revision for folder in (first, first, second)]
    assert revisions[0] == revisions[1] != revisions[2]


def refusal(model: Path | str) -> str:
    with pytest.raises(LoadError) as caught:
        load(Settings(model=str(model)))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_what_cannot_be_loaded_is_told_in_one_line(tmp_path: Path) -> None:
    assert "not a hub id" in refusal(tmp_path / "absent")
    (tmp_path / "empty").mkdir()
    assert "config.json" in refusal(tmp_path / "empty")
    MistralConfig().save_pretrained(tmp_path / "mistral")
    assert "'mistral'" in refusal(tmp_path / "mistral")
    pickled = save(tmp_path / "pickled")
    (pickled / "model.safetensors").rename(pickled / "pytorch_model.bin")
    assert "no *.safetensors" in refusal(pickled)
    cut = save(tmp_path / "cut")
    weights = (cut / "model.safetensors").read_bytes()
    (cut / "model.safetensors").write_bytes(weights[: len(weights) // 2])
    assert "cut" in refusal(cut)
    wordless = save(tmp_path / "wordless")
    for file in wordless.glob("tokenizer*"):
        file.unlink()
    assert "wordless" in refusal(wordless)


def test_weights_that_do_not_fit_the_configuration(tmp_path: Path) -> None:
    folder = save(tmp_path / "model", tiny(layers=1))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 2}))
    assert "model.layers.1" in refusal(folder)
    (folder / "config.json").write_text(json.dumps(config | {"hidden_size": 64}))
    assert refusal(folder)


def test_rotation_that_depends_on_length_is_refused(tmp_path: Path) -> None:
    rope = {"rope_type": "dynamic", "rope_theta": 10_000.0, "factor": 2.0}
    assert "dynamic" in refusal(save(tmp_path / "model", tiny(rope=rope)))


def test_a_server_without_a_model_ends_with_one_clear_line(tmp_path: Path) -> None:
    status, log = fails_to_start(tmp_path, SCORER_MODEL=str(tmp_path / "absent"))
    assert status != 0
    assert "Traceback" not in log
    assert len([line for line in log.splitlines() if "SCORER_MODEL" in line]) == 1
