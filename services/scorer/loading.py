"""Loads the model: the embedded one, a hub id through HF_ENDPOINT, or a local folder. Weights are safetensors only.

Whatever goes wrong here ends the process, so every failure is a `LoadError` of one line that says the way out.
"""

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import constants, snapshot_download
from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError, RevisionNotFoundError
from transformers import AutoTokenizer, LlamaForCausalLM
from transformers.utils import logging as transformers_logging

from services.scorer import embedded
from services.scorer.settings import Settings

EMBEDDED = "embedded"
# Weights, their index, the configuration and the tokenizer; never pickles, never code.
FILES = ["config.json", "model*.safetensors", "model.safetensors.index.json", "tokenizer*", "special_tokens_map.json"]
_HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")
# Their rotation depends on the length of the longest prompt in the batch: one prompt would change another's score.
_ROPE_BY_LENGTH = {"dynamic", "longrope"}


class LoadError(Exception):
    """The model cannot be loaded; the message is one line and says the way out."""


@dataclass(frozen=True)
class Loaded:
    """A LLaMA that is ready to run: frozen, in eval mode, on its device.

    Attributes:
        name: As the settings name it.
        revision: A hub commit, or a SHA-256 digest of the weights.
    """

    model: Any
    tokenizer: Any
    name: str
    revision: str


def load(settings: Settings) -> Loaded:
    """Load the model that the settings name.

    Raises:
        LoadError: It is not there, incomplete, not a LLaMA, or the hub does not answer.
    """
    transformers_logging.disable_progress_bar()
    dtype = getattr(torch, settings.dtype)
    if settings.model == EMBEDDED:
        model, tokenizer = embedded.build()
        revision = _weights_digest(model)
    elif Path(settings.model).expanduser().is_dir():
        folder = Path(settings.model).expanduser()
        model, tokenizer = _from_folder(folder, dtype, settings.model)
        revision = _files_digest(folder)
    else:
        folder = _from_hub(settings)
        model, tokenizer = _from_folder(folder, dtype, settings.model)
        revision = folder.name  # the hub's cache names a snapshot by its commit
    model.to(device=_device(settings.device), dtype=dtype).requires_grad_(False).eval()
    return Loaded(model, tokenizer, settings.model, revision)


def _device(name: str) -> str:
    available = torch.cuda.is_available()
    if name == "cuda" and not available:
        raise LoadError("SCORER_DEVICE is cuda, but torch finds no CUDA device; set it to cpu or auto")
    return "cuda" if available and name != "cpu" else "cpu"


def _from_hub(settings: Settings) -> Path:
    """The folder of a hub model's files, downloaded unless they are in the cache."""
    where = f"{settings.model!r} from the hub at {constants.ENDPOINT} (HF_ENDPOINT)"
    if not _HUB_ID.fullmatch(settings.model):
        raise LoadError(
            f"SCORER_MODEL is {settings.model!r}: no such folder, and not a hub id; give a folder, an id or `embedded`"
        )
    try:
        folder = snapshot_download(
            settings.model, revision=settings.revision, cache_dir=settings.cache_dir, allow_patterns=FILES
        )
    except RepositoryNotFoundError as error:
        raise LoadError(f"cannot load {where}: it has no such repository, or one that needs HF_TOKEN") from error
    except RevisionNotFoundError as error:
        raise LoadError(f"cannot load {where}: it has no revision {settings.revision!r}") from error
    except (OSError, ValueError, HfHubHTTPError) as error:
        raise LoadError(
            f"cannot load {where}: {_line(error)}; see to the network, set HF_ENDPOINT to a mirror that is reachable, "
            "or set SCORER_MODEL to a folder or to `embedded`"
        ) from error
    return Path(folder)


def _from_folder(folder: Path, dtype: torch.dtype, name: str) -> tuple[Any, Any]:
    """The model and tokenizer of a folder, after a look at what it holds."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        kind = config.get("model_type") if isinstance(config, dict) else None
    except (OSError, ValueError) as error:
        raise LoadError(f"cannot load {name!r}: no readable config.json in it ({_line(error)})") from error
    if kind != "llama":
        raise LoadError(f"cannot load {name!r}: it is a {kind!r} model; this scorer runs `llama` models only")
    if not any(folder.glob("*.safetensors")):
        raise LoadError(f"cannot load {name!r}: no *.safetensors weights in it; other formats are not read")
    try:
        model, report = LlamaForCausalLM.from_pretrained(
            folder, dtype=dtype, use_safetensors=True, local_files_only=True, output_loading_info=True
        )
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # whatever a broken file makes the libraries raise
        raise LoadError(f"cannot load {name!r}: {_line(error)}") from error
    if missing := sorted(report["missing_keys"]):
        raise LoadError(f"cannot load {name!r}: its weights lack {missing[0]} ({len(missing)} tensors in all)")
    rope = model.config.rope_parameters["rope_type"]
    if rope in _ROPE_BY_LENGTH:
        raise LoadError(f"cannot load {name!r}: rope scaling {rope!r} is not supported; use default, linear or llama3")
    return model, tokenizer


def _line(error: Exception) -> str:
    """An error's own words, on one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]


def _weights_digest(model: Any) -> str:
    """SHA-256 over names and bytes of all weights, hexadecimal."""
    digest = hashlib.sha256()
    for name, weight in sorted(model.named_parameters()):
        digest.update(name.encode())
        digest.update(weight.detach().numpy().tobytes())
    return digest.hexdigest()


def _files_digest(folder: Path) -> str:
    """SHA-256 over the folder's configuration, weights and tokenizer files, hexadecimal."""
    digest = hashlib.sha256()
    patterns = ("config.json", "*.safetensors", "tokenizer*", "special_tokens_map.json", "vocab*", "merges*")
    for path in sorted({path for pattern in patterns for path in folder.glob(pattern) if path.is_file()}):
        digest.update(path.name.encode())
        with path.open("rb") as file:
            while chunk := file.read(1 << 24):
                digest.update(chunk)
    return digest.hexdigest()
