"""Loads the model: the embedded one, a hub id through HF_ENDPOINT, a folder, or a random one. Only safetensors is read.

Whatever goes wrong here ends the process, so every failure is a `LoadError` of one line that says the way out.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer, LlamaForCausalLM
from transformers.utils import logging as transformers_logging

from services.scorer.model import checkpoint, hub, memory, placement, quantization, random_llama
from services.scorer.model.checkpoint import LoadError
from services.scorer.settings import Settings

__all__ = ["EMBEDDED", "EMBEDDED_FOLDER", "RANDOM", "LoadError", "Loaded", "load"]

EMBEDDED = "embedded"
EMBEDDED_FOLDER = Path(__file__).parent.parent / "embedded_model"
"""The checkpoint that ships; docs/embedded-model.md tells how it was made."""
RANDOM = "random"


@dataclass(frozen=True)
class Loaded:
    """A LLaMA that is ready to run: frozen, in eval mode, on its device.

    With `SCORER_DEVICE_MAP` its layers, embedding, norm and head are on several GPUs, each whole on one, and whoever
    runs them carries tensors between them. With `SCORER_QUANTIZATION` the layers' linear maps have weights that only
    they themselves can read; the embedding, the head and the norms have the dtype `model.dtype`, as all activations.

    Attributes:
        name: As the settings name it.
        revision: A hub commit, or a SHA-256 digest of the configuration and the weights (of a folder's files with its
            tokenizer), whatever the dtype that they are loaded in.
    """

    model: Any
    tokenizer: Any
    name: str
    revision: str


def load(settings: Settings) -> Loaded:
    """Load the model that the settings name.

    Raises:
        LoadError: It is not there, incomplete, not a LLaMA, too large, or the hub does not answer; or a setting needs
            a package or a device that is not there.
    """
    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()  # what it reports of missing weights is in the LoadError
    device = placement.choose_device(settings)
    dtype = placement.choose_dtype(settings.dtype, device)
    path = EMBEDDED_FOLDER if settings.model == EMBEDDED else Path(settings.model).expanduser()
    if settings.model == RANDOM:
        model, tokenizer, revision = _random(settings, device, dtype)
    elif path.is_dir():
        model, tokenizer = _from_folder(path, settings, device, dtype)
        revision = checkpoint.digest(path)
    else:
        folder = hub.fetch(settings)
        model, tokenizer = _from_folder(folder, settings, device, dtype)
        revision = folder.name  # the hub's cache names a snapshot by its commit
    return Loaded(model.requires_grad_(False).eval(), tokenizer, settings.model, revision)


def _random(settings: Settings, device: str, dtype: torch.dtype) -> tuple[Any, Any, str]:
    for setting, value in (("QUANTIZATION", settings.quantization), ("DEVICE_MAP", settings.device_map)):
        if value is not None:
            raise LoadError(f"SCORER_{setting} is for weights that are read from files; unset it, or set SCORER_MODEL")
    model, tokenizer = random_llama.build(settings)
    revision = _digest(model)
    placement.move(model, device, dtype)
    return model, tokenizer, revision


def _from_folder(folder: Path, settings: Settings, device: str, dtype: torch.dtype) -> tuple[Any, Any]:
    """The model and tokenizer of a folder, after a look at what it holds."""
    try:
        found = checkpoint.read(folder)
        memory.check(found, dtype, settings.quantization, device, spread=settings.device_map is not None)
        tokenizer = _tokenizer(folder)
        return _weights(found, settings, device, dtype), tokenizer
    except LoadError as error:
        raise LoadError(f"cannot load {settings.model!r}: {error}") from error
    except Exception as error:  # whatever a broken file makes the libraries raise
        raise LoadError(f"cannot load {settings.model!r}: {checkpoint.one_line(error)}") from error


def _tokenizer(folder: Path) -> Any:
    try:
        return AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # whatever a broken file makes the library raise
        raise LoadError(f"no readable tokenizer in it ({checkpoint.one_line(error)})") from error


def _weights(found: checkpoint.Checkpoint, settings: Settings, device: str, dtype: torch.dtype) -> Any:
    """The model, each weight read, cast, quantised and put in its place before the next: never two copies of all."""
    place = placement.device_map(settings, device)
    model, report = LlamaForCausalLM.from_pretrained(
        found.folder,
        config=found.config,
        dtype=dtype,
        device_map=place,
        quantization_config=quantization.configuration(settings.quantization, dtype),
        use_safetensors=True,
        local_files_only=True,
        output_loading_info=True,
    )
    if missing := sorted(report["missing_keys"]):
        raise LoadError(f"its weights lack {missing[0]} ({len(missing)} tensors in all); fetch it again")
    if place is None:
        placement.move(model, device, dtype)
    placement.refuse_offload(model, device)
    if settings.device_map is not None:
        placement.unhook(model)
    quantization.prepare(model)
    return model


def _digest(model: Any) -> str:
    """SHA-256 over the heads, which the weights' shapes do not tell, and over all weights, hexadecimal."""
    digest = hashlib.sha256(f"{model.config.num_attention_heads} {model.config.num_key_value_heads}".encode())
    for name, weight in sorted(model.named_parameters()):
        digest.update(name.encode())
        digest.update(weight.detach().numpy().tobytes())
    return digest.hexdigest()
