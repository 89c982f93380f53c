import sys
from pathlib import Path

import pytest
import torch
from transformers import LlamaForCausalLM

from services.scorer.model import placement
from services.scorer.model.loading import LoadError, load
from services.scorer.settings import Settings

from .checkpoints import logits, write
from .test_loading import refusal

no_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")


def test_auto_is_bfloat16_on_a_gpu_and_float32_on_the_cpu() -> None:
    assert placement.choose_dtype("auto", "cuda") == torch.bfloat16
    assert placement.choose_dtype("auto", "cpu") == torch.float32
    assert placement.choose_dtype("float16", "cpu") == torch.float16


@no_gpu
def test_a_gpu_that_is_not_there() -> None:
    assert "SCORER_DEVICE is cuda" in refusal(model="random", device="cuda")
    assert load(Settings(model="random", device="auto")).model.device.type == "cpu"


@no_gpu
def test_several_gpus_that_are_not_there(tmp_path: Path) -> None:
    pytest.importorskip("accelerate")
    write(tmp_path / "model")
    message = refusal(model=str(tmp_path / "model"), device_map="balanced")
    assert "SCORER_DEVICE_MAP" in message
    assert "no CUDA device" in message


def test_several_gpus_and_the_cpu(tmp_path: Path) -> None:
    pytest.importorskip("accelerate")
    write(tmp_path / "model")
    message = refusal(model=str(tmp_path / "model"), device_map="auto", device="cpu")
    assert "SCORER_DEVICE_MAP" in message
    assert "SCORER_DEVICE is cpu" in message


def test_several_gpus_need_a_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "model")
    monkeypatch.setitem(sys.modules, "accelerate", None)
    message = refusal(model=str(tmp_path / "model"), device_map="auto")
    assert "accelerate" in message
    assert "pip install '.[gpu]'" in message


def test_one_device_needs_no_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = write(tmp_path / "model")
    monkeypatch.setitem(sys.modules, "accelerate", None)
    loaded = load(Settings(model=str(tmp_path / "model"), device="cpu", dtype="float32"))
    assert torch.equal(logits(loaded.model), logits(model))


def test_weights_that_would_be_left_on_disk_are_refused(tmp_path: Path) -> None:
    pytest.importorskip("accelerate")
    write(tmp_path / "model")
    parts = ["model.embed_tokens", "model.layers.0", "model.layers.1", "model.norm", "model.rotary_emb", "lm_head"]
    spread = {part: "disk" if part == "model.layers.1" else "cpu" for part in parts}
    model = LlamaForCausalLM.from_pretrained(tmp_path / "model", device_map=spread, offload_folder=tmp_path / "offload")
    with pytest.raises(LoadError, match=r"model\.layers\.1.*SCORER_QUANTIZATION"):
        placement.refuse_offload(model, "cpu")


def test_modules_can_be_called_one_by_one_after_they_were_spread(tmp_path: Path) -> None:
    accelerate = pytest.importorskip("accelerate")
    model = write(tmp_path / "model")
    expected = logits(model)
    accelerate.dispatch_model(model, {"model": "cpu", "lm_head": "cpu"}, force_hooks=True)
    assert any(hasattr(module, "_hf_hook") for module in model.modules())
    placement.unhook(model)
    assert not any(hasattr(module, "_hf_hook") for module in model.modules())
    assert torch.equal(logits(model), expected)
