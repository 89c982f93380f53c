"""Where a model goes: its device, the dtype of its weights, and how its layers are laid over several GPUs."""

from importlib import import_module
from importlib.util import find_spec
from typing import Any

import torch

from services.scorer.model.checkpoint import LoadError
from services.scorer.settings import Settings


def choose_device(settings: Settings) -> str:
    """`cpu` or `cuda`.

    Raises:
        LoadError: The settings ask for a GPU where there is none, or contradict each other, or need a package.
    """
    if settings.device_map is not None:
        require("accelerate", "SCORER_DEVICE_MAP")
        if settings.device == "cpu":
            raise LoadError("SCORER_DEVICE_MAP lays a model over GPUs, but SCORER_DEVICE is cpu; unset one of them")
    if settings.device == "cpu":
        return "cpu"
    if torch.cuda.is_available():
        return "cuda"
    if settings.device == "cuda":
        raise LoadError("SCORER_DEVICE is cuda, but torch finds no CUDA device; set it to cpu or auto")
    if settings.device_map is not None:
        raise LoadError("SCORER_DEVICE_MAP lays a model over GPUs, but torch finds no CUDA device; unset it")
    return "cpu"


def choose_dtype(name: str, device: str) -> torch.dtype:
    """The dtype of weights and activations; `auto` is bfloat16 on `cuda` and float32 on `cpu`."""
    if name == "auto":
        return torch.bfloat16 if device == "cuda" else torch.float32
    dtype: torch.dtype = getattr(torch, name)
    return dtype


def device_map(settings: Settings, device: str) -> Any:
    """What `from_pretrained` takes to put weights where they belong as they are read; None without accelerate."""
    return settings.device_map or ({"": device} if find_spec("accelerate") else None)


def move(model: Any, device: str, dtype: torch.dtype) -> None:
    """Move a model, its weights one by one, so that there are never two copies of all.

    Buffers keep their dtype: rotary frequencies in bfloat16 would turn late positions by quite another angle.
    """
    for weight in model.parameters():
        weight.data = weight.data.to(device, dtype)
    model.to(device)


def refuse_offload(model: Any, device: str) -> None:
    """Make sure that every weight lives on the device, none on another one or on disk.

    Raises:
        LoadError: Some do not: they would be copied for every call.
    """
    away = [name for name, weight in model.named_parameters() if weight.device.type != device]
    if away:
        raise LoadError(
            f"{away[0]} and {len(away) - 1} more weights did not fit on {device} and would be offloaded; free GPU "
            "memory, add a GPU, set SCORER_QUANTIZATION, or choose a smaller SCORER_MODEL"
        )


def unhook(model: Any) -> None:
    """Take off what accelerate puts around the modules of a model on several GPUs.

    It would carry whatever a module is given to where that module is, and leave the result there: also what the
    rotary embedding says for layers on another GPU. The forward pass carries rows from GPU to GPU itself.
    """
    import_module("accelerate.hooks").remove_hook_from_submodules(model)


def require(package: str, setting: str) -> None:
    """Make sure that a package of the `gpu` extra is there.

    Raises:
        LoadError: It is not.
    """
    if find_spec(package) is None:
        raise LoadError(f"{setting} needs the package {package}: pip install '.[gpu]'")
