from collections.abc import Iterator

import httpx
import pytest
import torch

from services.scorer.service import Service
from services.scorer.settings import Settings

from .serving import scorer

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A client of a scorer with the embedded model and small limits."""
    limits = {
        "SCORER_MAX_BODY_BYTES": "400000",
        "SCORER_MAX_PROMPTS": "600",
        "SCORER_MAX_SLOTS": "50",
        "SCORER_MAX_VECTORS_PER_SLOT": "8",
        "SCORER_MAX_PROMPT_TOKENS": "300",
        "SCORER_MAX_CALL_TOKENS": "20000",
    }
    with scorer(tmp_path_factory.mktemp("scorer"), **limits) as running:
        yield running


@pytest.fixture(scope="session")
def service() -> Service:
    return Service(Settings(model="embedded"))
