import json
import math
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from services.scorer.model import checkpoint, memory
from services.scorer.model.loading import load
from services.scorer.settings import Settings

from ..serving import ROOT
from .checkpoints import write
from .test_loading import edit_config, refusal


def bytes_held(model: Any) -> int:
    """Bytes of a loaded model's weights, each counted once, with the scales that quantised ones come with."""
    held = 0
    for weight in model.parameters():
        held += weight.numel() * weight.element_size()
        if (state := getattr(weight, "quant_state", None)) is not None:
            held += state.absmax.numel() * state.absmax.element_size()
    return held


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("quantization", [None, "8bit", "4bit"])
def test_what_is_needed_is_what_the_loaded_model_holds(
    tmp_path: Path, quantization: Any, dtype: Any, tied: bool
) -> None:
    if quantization:
        pytest.importorskip("bitsandbytes")
    write(tmp_path / "model", "500KB", tie_word_embeddings=tied, hidden_size=256, intermediate_size=768)
    needed = memory.needed(checkpoint.read(tmp_path / "model"), getattr(torch, dtype), quantization)
    settings = Settings(model=str(tmp_path / "model"), dtype=dtype, quantization=quantization, device="cpu")
    assert needed == pytest.approx(bytes_held(load(settings).model), rel=0.02 if quantization else 0)


def test_a_head_that_is_stored_though_it_is_the_embedding_counts_once(tmp_path: Path) -> None:
    write(tmp_path / "model", tie_word_embeddings=True)
    weights = load_file(tmp_path / "model/model.safetensors")
    weights["lm_head.weight"] = weights["model.embed_tokens.weight"].clone()
    save_file(weights, tmp_path / "model/model.safetensors", {"format": "pt"})
    needed = memory.needed(checkpoint.read(tmp_path / "model"), torch.float32, None)
    loaded = load(Settings(model=str(tmp_path / "model"), dtype="float32", device="cpu")).model
    assert needed == bytes_held(loaded)


def grow(folder: Path, words: int) -> None:
    """Have the checkpoint's embedding hold so many words, in a file with a hole in place of their 64 numbers each."""
    edit_config(folder, vocab_size=words)
    size = words * 64 * 4
    tensor = {"dtype": "F32", "shape": [words, 64], "data_offsets": [0, size]}
    header = json.dumps({"model.embed_tokens.weight": tensor}).encode()
    with (folder / "model.safetensors").open("wb") as file:
        file.write(struct.pack("<Q", len(header)) + header)
        file.truncate(8 + len(header) + size)


def test_a_checkpoint_larger_than_the_memory_is_refused_before_it_is_loaded(tmp_path: Path) -> None:
    write(tmp_path / "model")
    grow(tmp_path / "model", 31_250_000_000)
    message = refusal(model=str(tmp_path / "model"), device="cpu", dtype="float32")
    assert "need 8000.0 GB as float32" in message
    assert "available on cpu" in message
    ways_out = ["SCORER_DTYPE=bfloat16", "SCORER_QUANTIZATION", "SCORER_DEVICE_MAP", "smaller SCORER_MODEL"]
    assert all(way in message for way in ways_out)
    assert "need 4000.0 GB as bfloat16" in refusal(model=str(tmp_path / "model"), device="cpu", dtype="bfloat16")


def test_memory_of_gpus_counts_where_the_model_may_use_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda number: ((5, 7, 11)[number], 80))
    assert memory.available("cuda", spread=False) == 7
    assert memory.available("cuda", spread=True) == 23


def group(folder: Path, **files: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text)


def test_the_limit_of_a_control_group(tmp_path: Path) -> None:
    (tmp_path / "self").write_text("0::/site/scorer\n")
    stat = "anon 500\ninactive_file 250\nactive_file 50\n"
    group(tmp_path / "fs/site/scorer", memory__max="max\n", memory__current="700\n", memory__stat=stat)
    assert memory.cgroup_room(tmp_path / "fs", tmp_path / "self") == math.inf
    group(tmp_path / "fs/site", memory__max="1000\n", memory__current="900\n", memory__stat=stat)
    # Of 900 used bytes, 300 are cached files, which make way.
    assert memory.cgroup_room(tmp_path / "fs", tmp_path / "self") == 400
    group(tmp_path / "fs/site/scorer", memory__max="750\n")
    assert memory.cgroup_room(tmp_path / "fs", tmp_path / "self") == 350


def test_the_limit_of_a_container_whose_group_is_the_root(tmp_path: Path) -> None:
    (tmp_path / "self").write_text("0::/\n")
    group(tmp_path / "fs", memory__max="1000\n", memory__current="1200\n", memory__stat="anon 1200\n")
    assert memory.cgroup_room(tmp_path / "fs", tmp_path / "self") == 0


def test_the_limit_of_a_control_group_of_version_1(tmp_path: Path) -> None:
    (tmp_path / "self").write_text("4:cpu,cpuacct:/docker/a\n5:memory:/docker/a\n0::/docker/a\n")
    stat = "inactive_file 1\ntotal_inactive_file 30\ntotal_active_file 20\n"
    files = {"memory__limit_in_bytes": "1000\n", "memory__usage_in_bytes": "600\n", "memory__stat": stat}
    group(tmp_path / "fs/memory", **files)
    assert memory.cgroup_room(tmp_path / "fs", tmp_path / "self") == 450


def test_no_control_groups(tmp_path: Path) -> None:
    assert memory.cgroup_room(tmp_path, tmp_path / "absent") == math.inf


PEAK = """
import sys, threading, time
from services.scorer.model.loading import load
from services.scorer.settings import Settings

def anonymous():
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith("RssAnon"))

def watch():
    global peak
    while not done.is_set():
        peak = max(peak, anonymous())
        time.sleep(0.002)

load(Settings(model="random"))  # whatever is imported late is imported now
before = peak = anonymous()
done = threading.Event()
thread = threading.Thread(target=watch)
thread.start()
loaded = load(Settings(model=sys.argv[1], dtype=sys.argv[2], device="cpu"))
done.set()
thread.join()
print(peak - before)
"""


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of 385 MB in float32, in four shards."""
    folder = tmp_path_factory.mktemp("large")
    shape = {"hidden_size": 1024, "intermediate_size": 3072, "num_hidden_layers": 7}
    write(folder, "100MB", **shape)
    assert len(list(folder.glob("*.safetensors"))) > 3
    return folder


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_large_checkpoint_is_never_in_memory_twice(large: Path, dtype: str) -> None:
    command = [sys.executable, "-c", PEAK, str(large), dtype]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    needed = memory.needed(checkpoint.read(large), getattr(torch, dtype), None)
    assert needed > 150e6
    assert int(run.stdout) < 1.3 * needed
