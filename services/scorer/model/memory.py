"""Whether a checkpoint's weights fit: what they need, by their headers, and what is free, by the device or the host."""

import math
from pathlib import Path

import psutil
import torch

from services.scorer.model.checkpoint import Checkpoint, LoadError, Stored

# Bytes of a quantised number: 4 bits come with a float32 scale for each 64 numbers.
_QUANTISED = {"8bit": 1.0, "4bit": 0.5 + 4 / 64}
# Where the two versions of control groups keep a limit, the use, and in memory.stat the prefix of its lines.
_CGROUPS = {
    "": (".", "memory.max", "memory.current", ""),
    "memory": ("memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_"),
}


def check(checkpoint: Checkpoint, dtype: torch.dtype, quantization: str | None, device: str, spread: bool) -> None:
    """Refuse a checkpoint that would end the process, before it is loaded.

    Args:
        checkpoint: What to load.
        dtype: Of the weights, once loaded.
        quantization: `8bit`, `4bit` or None.
        device: `cpu` or `cuda`.
        spread: Whether all CUDA devices take part, or the current one only.

    Raises:
        LoadError: It needs more memory than is available.
    """
    need, free = needed(checkpoint, dtype, quantization), available(device, spread)
    if need > free:
        raise LoadError(
            f"its weights need {need / 1e9:.1f} GB as {quantization or str(dtype).removeprefix('torch.')}, and "
            f"{free / 1e9:.1f} GB are available on {device}; set SCORER_DTYPE=bfloat16 or SCORER_QUANTIZATION, "
            "spread it over several GPUs with SCORER_DEVICE_MAP, or choose a smaller SCORER_MODEL"
        )


def needed(checkpoint: Checkpoint, dtype: torch.dtype, quantization: str | None) -> int:
    """Bytes of the loaded weights. A head that is tied to the embedding is that same memory."""
    tied = checkpoint.config.tie_word_embeddings
    sizes = [
        _bytes(name, tensor, dtype, quantization)
        for name, tensor in checkpoint.tensors.items()
        if not (tied and name == "lm_head.weight")
    ]
    return math.ceil(sum(sizes))


def _bytes(name: str, tensor: Stored, dtype: torch.dtype, quantization: str | None) -> float:
    # The layers' matrices are quantised; the embedding, the head and the norms stay as they are.
    matrix = len(tensor.shape) == 2 and "layers." in name
    return math.prod(tensor.shape) * (_QUANTISED[quantization] if quantization and matrix else dtype.itemsize)


def available(device: str, spread: bool) -> int:
    """Bytes that are free on `cpu`, or on `cuda`: on all its devices, or on the current one."""
    if device == "cpu":
        return int(min(psutil.virtual_memory().available, cgroup_room()))
    devices = range(torch.cuda.device_count()) if spread else [torch.cuda.current_device()]
    return sum(torch.cuda.mem_get_info(number)[0] for number in devices)


def cgroup_room(mount: Path = Path("/sys/fs/cgroup"), membership: Path = Path("/proc/self/cgroup")) -> float:
    """Bytes that the control groups of this process (v2 or v1) leave it; infinity where there is no limit.

    Args:
        mount: Where the groups are. In a container its own group may be the root there, whatever `membership` says.
        membership: The file that lists this process's groups.
    """
    try:
        lines = membership.read_text(encoding="utf-8").splitlines()
    except OSError:
        return math.inf
    rooms = [math.inf]
    for line in lines:
        _, controllers, path = line.split(":", 2)
        for controller in _CGROUPS.keys() & controllers.split(","):
            root, *files = _CGROUPS[controller]
            parts = Path(path.strip("/")).parts
            # A limit holds for all groups below it.
            groups = [mount.joinpath(root, *parts[:depth]) for depth in range(len(parts) + 1)]
            rooms += [_room(group, *files) for group in groups]
    return min(rooms)


def _room(group: Path, limit_file: str, use_file: str, prefix: str) -> float:
    try:
        limit = (group / limit_file).read_text(encoding="utf-8").strip()
        use = int((group / use_file).read_text(encoding="utf-8"))
        lines = (group / "memory.stat").read_text(encoding="utf-8").splitlines()
        if limit == "max":
            return math.inf
    except OSError:
        return math.inf
    stat = {name: int(value) for name, value in (line.split() for line in lines)}
    # Cached files count as used, yet make way for whoever needs the memory.
    cached = stat.get(f"{prefix}inactive_file", 0) + stat.get(f"{prefix}active_file", 0)
    return max(int(limit) - use + cached, 0)
