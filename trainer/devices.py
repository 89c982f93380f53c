"""Where a client's tensors are: the CPU, or a GPU that is asked for by name."""

import os

import torch


class DeviceMissing(Exception):
    """The machine has no such device; the message says what it has."""


def usable_device(name: str) -> str:
    """The name, once it is known that torch can use that device, and that a seeded run repeats on it.

    Raises:
        DeviceMissing: It cannot.
    """
    try:
        device = torch.device(name)
        if device.type == "cuda":
            # The library of products picks its ways at random unless it is given fixed room to work in.
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
            torch.use_deterministic_algorithms(True)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        found = f"cpu and {torch.cuda.device_count()} CUDA devices"
        raise DeviceMissing(
            f"device {name!r} cannot be used here ({str(error).splitlines()[0]}); found: {found}"
        ) from error
    return name
