"""Weights of 8 and 4 bits against a plain LLaMA that holds the same numbers, read out of the layers by unit vectors."""

import copy
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from services.scorer.model.loading import load
from services.scorer.settings import Settings

from .checkpoints import write
from .test_loading import refusal


def quantised(folder: Path, quantization: Any, **settings: Any) -> Any:
    pytest.importorskip("bitsandbytes")
    return load(Settings(model=str(folder), quantization=quantization, device="cpu", **settings)).model


def maps(model: Any) -> Iterator[tuple[str, Any]]:
    """The layers' linear maps by name."""
    for name, module in model.model.layers.named_modules():
        if name.endswith("_proj"):
            yield name, module


def matrix(module: Any, inputs: int) -> Tensor:
    """What a linear map multiplies by, [out, in]."""
    with torch.no_grad():
        zero = module(torch.zeros(1, inputs))
        return (module(torch.eye(inputs)) - zero).T


def plain(model: Any, original: Any) -> Any:
    """The original with the numbers that the quantised model multiplies by."""
    twin = copy.deepcopy(original)
    for (_, module), (_, changed) in zip(maps(model), maps(twin), strict=True):
        changed.weight.copy_(matrix(module, changed.in_features))
    return twin


def states_and_gradient(model: Any, inputs: Tensor) -> tuple[Tensor, Tensor]:
    inputs = inputs.to(model.dtype).requires_grad_()
    states = model.model(inputs_embeds=inputs).last_hidden_state
    (gradient,) = torch.autograd.grad(states.float().sin().sum(), inputs)
    return states.detach().float(), gradient.float()


def off(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).norm() / expected.norm())


@pytest.fixture(params=[False, True], ids=["without biases", "with biases"])
def original(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    """A model, saved as `tmp_path / "model"`."""
    biases = {"attention_bias": request.param, "mlp_bias": request.param}
    return write(tmp_path / "model", hidden_size=128, intermediate_size=320, **biases)


@pytest.mark.parametrize("quantization", ["8bit", "4bit"])
def test_scores_and_gradients_are_those_of_the_quantised_numbers(
    tmp_path: Path, original: Any, quantization: str
) -> None:
    model = quantised(tmp_path / "model", quantization)
    twin = plain(model, original)
    inputs = torch.randn(3, 7, 128)
    with torch.no_grad():  # as a score: what it does to the weights must not spoil the gradients after it
        first = model.model(inputs_embeds=inputs).last_hidden_state
    states, gradient = states_and_gradient(model, inputs)
    expected, expected_gradient = states_and_gradient(twin, inputs)
    assert off(first, expected) < 1e-4
    assert off(states, expected) < 1e-4
    assert off(gradient, expected_gradient) < 1e-4


@pytest.mark.parametrize(("quantization", "error"), [("8bit", 0.01), ("4bit", 0.12)])
def test_quantised_numbers_are_close_to_the_original_ones(
    tmp_path: Path, original: Any, quantization: str, error: float
) -> None:
    model = quantised(tmp_path / "model", quantization)
    for (_, module), (name, exact) in zip(maps(model), maps(original), strict=True):
        assert 0 < off(matrix(module, exact.in_features), exact.weight) < error, name


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize(("quantization", "error"), [("8bit", 0.05), ("4bit", 0.5)])
def test_it_says_nearly_what_the_original_says(
    tmp_path: Path, original: Any, quantization: str, error: float, dtype: str
) -> None:
    model = quantised(tmp_path / "model", quantization, dtype=dtype)
    assert str(model.dtype) == f"torch.{dtype}"
    inputs = torch.randn(3, 7, 128)
    states, gradient = states_and_gradient(model, inputs)
    expected, expected_gradient = states_and_gradient(original, inputs)
    assert off(states, expected) < error
    assert off(gradient, expected_gradient) < error


@pytest.mark.parametrize("quantization", ["8bit", "4bit"])
def test_a_prompt_does_not_change_what_is_said_of_another(tmp_path: Path, original: Any, quantization: str) -> None:
    model = quantised(tmp_path / "model", quantization)
    inputs = torch.randn(2, 7, 128)
    inputs[1] *= 100  # where activations are quantised, such outliers change how the whole batch is treated
    with torch.no_grad():
        alone, together = (model.model(inputs_embeds=x).last_hidden_state[0] for x in (inputs[:1], inputs))
    assert off(together, alone) < 1e-5


def test_sizes_that_cannot_be_read_back_from_4_bits(tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes")
    write(tmp_path / "model", hidden_size=64, intermediate_size=96)
    message = refusal(model=str(tmp_path / "model"), quantization="4bit", device="cpu")
    assert "mlp.down_proj must be a multiple of 64, not 96" in message
    assert "SCORER_QUANTIZATION=8bit" in message


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("quantization", ["8bit", "4bit"])
def test_the_embedding_and_the_head_are_left_as_they_are(tmp_path: Path, quantization: str, tied: bool) -> None:
    original = write(tmp_path / "model", tie_word_embeddings=tied, intermediate_size=128)
    model = quantised(tmp_path / "model", quantization)
    assert torch.equal(model.get_input_embeddings().weight, original.get_input_embeddings().weight)
    assert torch.equal(model.get_output_embeddings().weight, original.get_output_embeddings().weight)


def test_a_package_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "model")
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    message = refusal(model=str(tmp_path / "model"), quantization="4bit")
    assert "bitsandbytes" in message
    assert "pip install '.[gpu]'" in message
