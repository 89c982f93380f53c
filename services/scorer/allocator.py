"""How the C library hands out memory: kept in the process, rather than given back after every layer.

A layer's activations are megabytes that live for a moment. By default glibc maps and unmaps each of them, and a
thread's own arena cannot hold them at all; on the CPU the page faults took a tenth of a forward pass.
"""

import ctypes

# mallopt's parameters, from malloc.h.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -2, -3, -8


def keep_memory() -> None:
    """Keep freed memory for the next batch, in one arena. For a process of one's own; does nothing without glibc."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return
    mallopt(_ARENA_MAX, 1)
    mallopt(_MMAP_THRESHOLD, 1 << 30)
    mallopt(_TRIM_THRESHOLD, 1 << 30)
    mallopt(_TOP_PAD, 64 << 20)
