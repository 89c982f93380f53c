"""Loops over numbers: compiled by numba, and spread over as many threads as torch uses.

A loop is cut in parts by its length alone, so that sums are taken in the same order whatever the number of threads.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from typing import Any, Literal

import numba
import torch

MOST_PARTS = 8
SMALLEST_PART = 16
"""Below so many steps a part costs more than it saves."""

REORDERED = {"reassoc", "contract", "nsz", "arcp"}
"""Sums may be taken in the order that the machine's vectors like; NaN and infinity keep their meaning."""


def compiled(function: Callable[..., Any], inline: Literal["never", "always"] = "never") -> Callable[..., Any]:
    """`function` compiled at its first call; it lets go of the interpreter's lock, and later processes find it made."""
    njit = partial(numba.njit, nogil=True, fastmath=REORDERED, inline=inline)
    try:
        made: Callable[..., Any] = njit(cache=True)(function)
    except RuntimeError:  # numba's way to say that neither this package nor the user has a folder that can be written
        made = njit()(function)
    return made


inlined = partial(compiled, inline="always")
"""For what is called in the innermost loop: it is written out there, as a call would take longer than its work."""


def parts_of(steps: int) -> int:
    """How many parts a loop of so many steps is cut into."""
    return max(1, min(MOST_PARTS, steps // SMALLEST_PART))


def in_parts(loop: Callable[[int, int, int], None], steps: int) -> None:
    """Call `loop(part, start, end)` for the parts that make up `range(steps)`, side by side where there are threads.

    What two parts write must not overlap.
    """
    parts = parts_of(steps)
    threads = min(torch.get_num_threads(), parts)
    numbers = iter(range(parts))

    def run() -> None:
        for part in numbers:  # whoever is free takes the next one
            loop(part, steps * part // parts, steps * (part + 1) // parts)

    # This thread works too: handing over costs more than a part of a small loop.
    others = [_pool(threads).submit(run) for _ in range(1, threads)]
    run()
    for other in others:
        other.result()


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="loops")
