"""What is measured: a LLaMA of a known shape with random weights, a scorer that serves it, and calls of fixed size."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from protocol import tensors
from services.scorer.engine.engine import Engine
from services.scorer.model.loading import load
from services.scorer.model.random_llama import build_tokenizer
from services.scorer.requests import ScoreCall, Slots
from services.scorer.settings import Settings
from services.scorer.templates import load as load_templates

THREADS = os.cpu_count() or 1
HEADERS = {"Content-Type": tensors.MEDIA_TYPE}
SMOLLM2_135M = {
    "vocab_size": 49_152,
    "hidden_size": 576,
    "intermediate_size": 1_536,
    "num_hidden_layers": 30,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "max_position_embeddings": 2_048,
    "tie_word_embeddings": True,
}
"""The shape of SmolLM2-135M (its config.json)."""
HEAD_VECTORS, RELATION_VECTORS = 3, 18
"""With the words of the template `triple`: 40 positions before the tail, 13 of them the same in every prompt."""
PREFIX, SUFFIX = 40, 6


def checkpoint(shape: dict[str, Any] = SMOLLM2_135M) -> Path:
    """A folder with a model of that shape, made on the first call and kept in `benchmarks/.models`."""
    name = f"hidden-{shape['hidden_size']}-layers-{shape['num_hidden_layers']}"
    folder = Path(__file__).parent / ".models" / name
    if not (folder / "config.json").is_file():
        torch.manual_seed(0)
        model = LlamaForCausalLM(LlamaConfig(**shape, pad_token_id=0, bos_token_id=1, eos_token_id=2))
        model.save_pretrained(folder)
        build_tokenizer().save_pretrained(folder)
    return folder


def engine(folder: Path, **settings: Any) -> Engine:
    """The engine in this process."""
    chosen = Settings(model=str(folder), **settings)
    loaded = load(chosen)
    limits = chosen.limits(loaded.model.config.max_position_embeddings)
    return Engine(loaded, load_templates(), limits, batch_tokens=chosen.batch_tokens, memory=4 << 30)


@contextmanager
def scorer(folder: Path | str, **environment: str) -> Iterator[httpx.Client]:
    """A client of a scorer in a process of its own, which is ready."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "uvicorn", "services.scorer.app:create_app", "--factory", "--port", str(port)]
    settings = {"SCORER_MODEL": str(folder), "SCORER_THREADS": str(THREADS), **environment}
    process = subprocess.Popen(
        [*command, "--no-access-log", "--log-level", "warning"], env=os.environ | settings, stderr=subprocess.DEVNULL
    )
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=600) as client:
            _wait(client, process)
            yield client
    finally:
        process.terminate()
        process.wait(60)


def _wait(client: httpx.Client, process: "subprocess.Popen[bytes]") -> None:
    while process.poll() is None:
        try:
            if client.get("/ready").is_success:
                return
        except httpx.TransportError:
            time.sleep(0.2)
    raise SystemExit("the scorer did not start; start it by hand to see why")


def arrays(triples: np.ndarray, hidden: int, seed: int = 0) -> dict[str, np.ndarray]:
    """The tensors of a call: vectors of the size of a trained model's own embeddings."""
    random = np.random.default_rng(seed)
    entities, relations = int(triples[:, [0, 2]].max()) + 1, int(triples[:, 1].max()) + 1
    return {
        "entities": random.normal(0, 0.04, (entities, HEAD_VECTORS, hidden)).astype(np.float32),
        "relations": random.normal(0, 0.04, (relations, RELATION_VECTORS, hidden)).astype(np.float32),
        "triples": triples.astype(np.int32),
    }


def candidates(count: int, queries: int = 1) -> np.ndarray:
    """Triples [queries * count, 3]: so many tails for each of several (head, relation)."""
    tails = np.tile(np.arange(count) + queries, queries)
    numbers = np.repeat(np.arange(queries), count)
    return np.stack([numbers, numbers, tails], axis=1)


def call_of(parts: dict[str, np.ndarray]) -> ScoreCall:
    """The same call for an engine in this process."""
    slots = []
    for name in ("entities", "relations"):
        rows, each, hidden = parts[name].shape
        counts = np.full(rows, each, dtype=np.int64)
        slots.append(Slots(parts[name].reshape(-1, hidden), np.arange(rows) * each, counts, {}))
    return ScoreCall(slots[0], slots[1], parts["triples"].astype(np.int64))


def post(client: httpx.Client, path: str, body: bytes) -> bytes:
    """The reply to a safetensors body."""
    reply = client.post(path, content=body, headers=HEADERS)
    reply.raise_for_status()
    return reply.content


def usage_of(reply: bytes) -> dict[str, int]:
    """What a reply says that it cost."""
    size = int.from_bytes(reply[:8], "little")
    return dict(json.loads(json.loads(reply[8 : 8 + size])["__metadata__"]["message"])["usage"])
