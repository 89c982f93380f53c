"""Fetches a model's files from a hub (HF_ENDPOINT), unless they are in the cache."""

import re
from pathlib import Path

from huggingface_hub import constants, snapshot_download
from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError, RevisionNotFoundError

from services.scorer.model.checkpoint import LoadError, one_line
from services.scorer.settings import Settings

# Weights, their index, the configuration and the tokenizer; never pickles, never code.
FILES = [
    "config.json",
    "model*.safetensors",
    "model.safetensors.index.json",
    "tokenizer*.json",
    "tokenizer.model",
    "special_tokens_map.json",
]
_HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")


def fetch(settings: Settings) -> Path:
    """The folder of a hub model's files. The cache names it by the commit that the wanted revision stands for.

    Raises:
        LoadError: The hub does not answer, or has no such model or revision.
    """
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
            f"cannot load {where}: {one_line(error)}; see to the network, set HF_ENDPOINT to a mirror that is "
            "reachable, or set SCORER_MODEL to a folder or to `embedded`"
        ) from error
    return Path(folder)
