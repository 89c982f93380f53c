"""A checkpoint folder as it lies on disk: its configuration and what its weights' headers say. No weight is read.

Whatever is wrong with it is told before minutes go into loading it.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from transformers import LlamaConfig, LlamaForCausalLM

# With the others, dynamic and longrope, rotation depends on the longest prompt of a batch: one prompt would change
# another's score.
_ROPES = ("default", "linear", "llama3", "yarn")


class LoadError(Exception):
    """The model cannot be loaded; the message is one line and says the way out."""


@dataclass(frozen=True)
class Stored:
    """A tensor's header; the dtype is named as in safetensors, for instance `BF16`."""

    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True)
class Checkpoint:
    """A complete LLaMA checkpoint: its folder, its configuration and its tensors by name."""

    folder: Path
    config: LlamaConfig
    tensors: dict[str, Stored]


def read(folder: Path) -> Checkpoint:
    """Look at what a folder holds.

    Raises:
        LoadError: It is incomplete, broken, or not a LLaMA that this scorer runs.
    """
    config = _config(folder)
    tensors: dict[str, Stored] = {}
    for file in _weight_files(folder):
        tensors |= _header(file)
    _check_shapes(config, tensors)
    return Checkpoint(folder, config, tensors)


def planned(config: LlamaConfig) -> Checkpoint:
    """What a model of that configuration would be in float32. It has no folder, and takes no memory."""
    return Checkpoint(Path(), config, {name: Stored(shape, "F32") for name, shape in _shapes(config).items()})


def digest(folder: Path) -> str:
    """SHA-256 over the folder's configuration, weights and tokenizer files, hexadecimal."""
    found = hashlib.sha256()
    patterns = ("config.json", "*.safetensors", "tokenizer*", "special_tokens_map.json", "vocab*", "merges*")
    for path in sorted({path for pattern in patterns for path in folder.glob(pattern) if path.is_file()}):
        found.update(path.name.encode())
        with path.open("rb") as file:
            while chunk := file.read(1 << 24):
                found.update(chunk)
    return found.hexdigest()


def one_line(error: Exception) -> str:
    """An error's own words, on one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]


def _config(folder: Path) -> Any:
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        kind = config.get("model_type") if isinstance(config, dict) else None
    except (OSError, ValueError) as error:
        raise LoadError(f"no readable config.json in it ({one_line(error)})") from error
    if kind != "llama":
        raise LoadError(f"it is a {kind!r} model; this scorer runs `llama` models only")
    if "quantization_config" in config:
        raise LoadError("its weights are quantised already; give the original model and set SCORER_QUANTIZATION")
    found = LlamaConfig.from_pretrained(folder, local_files_only=True)
    rope = found.rope_parameters["rope_type"]
    if rope not in _ROPES:
        raise LoadError(f"rope scaling {rope!r} is not supported; choose a model with one of {', '.join(_ROPES)}")
    return found


def _weight_files(folder: Path) -> list[Path]:
    """The one file or the shards that the index names, all of which are there."""
    whole, index = folder / "model.safetensors", folder / "model.safetensors.index.json"
    if whole.is_file():
        return [whole]
    if not index.is_file():
        raise LoadError("no *.safetensors weights in it (model.safetensors, or an index of shards); no other is read")
    try:
        names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise LoadError(f"{index.name} is not readable ({one_line(error)}); fetch it again") from error
    if absent := [name for name in names if not (folder / name).is_file()]:
        raise LoadError(
            f"its index names {absent[0]}, which is not there ({len(absent)} shards in all); fetch it again"
        )
    return [folder / name for name in names]


def _header(file: Path) -> dict[str, Stored]:
    try:
        # As torch tensors the file would be mapped in a way that the kernel refuses if it is larger than the memory.
        with safe_open(file, framework="numpy") as tensors:
            slices = {name: tensors.get_slice(name) for name in tensors.keys()}  # noqa: SIM118 - it has no iterator
            return {name: Stored(tuple(part.get_shape()), part.get_dtype()) for name, part in slices.items()}
    except Exception as error:  # safetensors has its own, for instance where a file is cut short
        raise LoadError(f"{file.name} is broken ({one_line(error)}); fetch it again") from error


def _check_shapes(config: LlamaConfig, tensors: dict[str, Stored]) -> None:
    expected = _shapes(config)
    for name in sorted(expected.keys() & tensors.keys()):
        shape, wanted = tensors[name].shape, expected[name]
        if shape != wanted:
            raise LoadError(f"{name} is {list(shape)}, but by config.json it should be {list(wanted)}; fetch it again")


def _shapes(config: LlamaConfig) -> dict[str, tuple[int, ...]]:
    with torch.device("meta"):
        return {name: tuple(tensor.shape) for name, tensor in LlamaForCausalLM(config).state_dict().items()}
