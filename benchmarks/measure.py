"""Times, rates and tables."""

import json
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from rich.console import Console
from rich.table import Table


def in_turn(rounds: int, **calls: Callable[[], object]) -> dict[str, float]:
    """Median seconds of each call; one after the other in every round, so that all see the same machine."""
    for call in calls.values():
        call()
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            taken[name].append(time.perf_counter() - start)
    return {name: statistics.median(seconds) for name, seconds in taken.items()}


MATRIX = 1024
PRODUCTS = 20


def products(dtype: torch.dtype = torch.float32, device: str = "cpu", size: int = MATRIX) -> Callable[[], None]:
    """Square matrix products, whose rate is what the machine can do: 2 * size^3 operations each."""
    a, b = (torch.randn(size, size, dtype=dtype, device=device) for _ in range(2))

    def run() -> None:
        for _ in range(PRODUCTS):
            a @ b
        if device != "cpu":
            torch.cuda.synchronize()

    return run


def product_flops(size: int = MATRIX) -> float:
    """Operations of one call of `products`."""
    return PRODUCTS * 2.0 * size**3


def forward_flops(shape: Mapping[str, Any], tokens: int, seen: int, reads: int, vocabulary: bool = True) -> float:
    """Operations of a forward pass: of the tokens that have to run, in the layers where they have to.

    Args:
        shape: Of the model.
        tokens: Positions that run.
        seen: Positions that a token sees, on average.
        reads: Positions that are read: the last layer's queries, output projection and MLP run at these only.
        vocabulary: Whether all logits of the reads are computed.
    """
    H, L = shape["hidden_size"], shape["num_hidden_layers"]
    heads, kv = shape["num_attention_heads"], shape["num_key_value_heads"]
    keys_values = 2 * H * (kv * H // heads)
    rest = 2 * H * H + 3 * H * shape["intermediate_size"]
    linear = (L - 1) * tokens * (keys_values + rest) + tokens * keys_values + reads * rest
    attention = 2 * seen * H * ((L - 1) * tokens + reads)
    return float(2 * (linear + attention + (reads * H * shape["vocab_size"] if vocabulary else 0)))


def show(title: str, rows: Sequence[tuple[str, ...]], columns: tuple[str, ...], result: Mapping[str, Any]) -> None:
    """Print a table, and the figures as one JSON line."""
    table = Table(*columns, title=title)
    for row in rows:
        table.add_row(*row)
    console = Console(width=110)
    console.print(table)
    print(json.dumps({name: round(v, 4) if isinstance(v, float) else v for name, v in result.items()}))
