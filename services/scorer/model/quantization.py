"""Weights of 8 or 4 bits, made by bitsandbytes while a checkpoint is read; they are widened for a product only.

Activations are never quantised. bitsandbytes' own product of 8 bits does that (LLM.int8, Dettmers et al. 2022) with
outliers told by the whole batch: one prompt would change another's score. So its weights get a plain product here.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import BitsAndBytesConfig

from services.scorer.model.checkpoint import LoadError
from services.scorer.model.placement import require


def configuration(quantization: str | None, dtype: torch.dtype) -> Any:
    """What `from_pretrained` takes, for `8bit`, `4bit` or None; products run in the dtype.

    The embedding and the head are left as they are.

    Raises:
        LoadError: bitsandbytes or accelerate is not installed.
    """
    if quantization is None:
        return None
    for package in ("bitsandbytes", "accelerate"):
        require(package, "SCORER_QUANTIZATION")
    if quantization == "8bit":
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=dtype)


def prepare(model: Any) -> None:
    """Make the products of a model that bitsandbytes quantised independent of the batch, and differentiable.

    Raises:
        LoadError: It is on the CPU, in 4 bits, and has sizes that bitsandbytes reads back wrong there.
    """
    for name, module in list(model.named_modules()):
        weight: Any = getattr(module, "weight", None)
        if getattr(weight, "SCB", None) is not None:
            model.set_submodule(name, Int8Linear(weight.data, weight.SCB, module.bias))
        elif getattr(weight, "quant_state", None) is not None:
            _prepare_4bit(name, module)


def _prepare_4bit(name: str, module: Any) -> None:
    size, block = module.in_features, module.weight.blocksize
    if module.weight.device.type == "cpu" and size % block:
        raise LoadError(
            f"in 4 bits on the CPU, inputs of {name} must be a multiple of {block}, not {size}; set "
            "SCORER_QUANTIZATION=8bit"
        )
    # On CPUs that have these instructions, the first product without gradients would pack the weights anew, in place,
    # and after it there would be no gradients.
    module.support_avx512bf16_for_cpu = False


class Int8Linear(torch.nn.Module):
    """A linear map whose frozen weights are int8, with one scale for each row.

    Attributes:
        weight: int8 [out, in].
        scale: float32 [out, 1].
        bias: [out], or None.
    """

    def __init__(self, weight: Tensor, absmax: Tensor, bias: torch.nn.Parameter | None) -> None:
        """Take the weights, and the largest absolute value of each row, float32 [out], which stands as 127."""
        super().__init__()
        self.weight = torch.nn.Parameter(weight, requires_grad=False)
        self.scale = torch.nn.Parameter(absmax[:, None] / 127, requires_grad=False)
        self.bias = bias

    def forward(self, x: Tensor) -> Tensor:
        """[..., in] to [..., out], in the dtype of x."""
        product: Tensor = _Product.apply(x, self.weight, self.scale)
        return product if self.bias is None else product + self.bias


class _Product(torch.autograd.Function):
    """Keeps the int8 weights for the backward pass, not the widened ones."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, scale: Tensor) -> Tensor:
        ctx.save_for_backward(weight, scale)
        return F.linear(x, (weight * scale).to(x.dtype))

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        weight, scale = ctx.saved_tensors
        return grad @ (weight * scale).to(grad.dtype), None, None
