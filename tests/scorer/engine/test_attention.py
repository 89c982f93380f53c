import pytest
import torch
from torch import Tensor

from services.scorer.engine import attention
from services.scorer.engine.attention import attend, attend_once
from services.scorer.engine.forest import Block

from ..models import difference

ROOTS, NODES, D = 5, 16, 4
HEADS = [(4, 4), (4, 2), (6, 1)]


def numbers(seed: int, *shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def tables(heads: int, shared: int, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    """Queries of the nodes, keys and values of the roots and nodes, to differentiate with respect to."""
    sizes = [(NODES, heads * D), (ROOTS + NODES, shared * D), (ROOTS + NODES, shared * D)]
    return [numbers(seed, *size, dtype=dtype).requires_grad_() for seed, size in enumerate(sizes)]


def plain(query: Tensor, keys: Tensor, values: Tensor, seen: list[int]) -> Tensor:
    """One position's attention, one head after the other."""
    heads, shared = len(query) // D, keys.shape[1] // D
    found = []
    for head in range(heads):
        at = head * shared // heads * D
        k, v = keys[seen, at : at + D], values[seen, at : at + D]
        found.append((k @ query[head * D : head * D + D] / D**0.5).softmax(0) @ v)
    return torch.cat(found)


def agree(found: list[Tensor], wanted: list[Tensor], leaves: list[Tensor]) -> float:
    """How far values and gradients are from each other."""
    weights = [numbers(7 + n, *part.shape) for n, part in enumerate(found)]
    ours, theirs = (
        torch.autograd.grad(sum((w * x).sum() for w, x in zip(weights, parts, strict=True)), leaves)
        for parts in (found, wanted)
    )
    pairs = [*zip(found, wanted, strict=True), *zip(ours, theirs, strict=True)]
    return max(difference(a.detach(), b.detach()) for a, b in pairs)


# Two families: of segments 6 7 8, 9 10 (padded) and 11 (padded) after five positions; of 0 1 and 2 3 after three.
INDEX = torch.tensor([[[6, 7, 8], [9, 10, 10], [11, 11, 11]], [[0, 1, 1], [2, 3, 3], [2, 3, 3]]])
CONTEXT = torch.tensor([[0, 1, 2, ROOTS + 4, ROOTS + 5], [3, 4, ROOTS + 12, 3, 3]])
HIDDEN = torch.tensor([[False] * 5, [False] * 3 + [True] * 2])
HELD = {(0, 0): 3, (0, 1): 2, (0, 2): 1, (1, 0): 2, (1, 1): 2}


@pytest.mark.parametrize(("heads", "shared"), HEADS)
def test_nodes_see_their_context_and_their_segment_up_to_themselves(heads: int, shared: int) -> None:
    leaves = queries, keys, values = tables(heads, shared)
    mixed = attend(queries, keys, values, ROOTS, Block(CONTEXT, HIDDEN, INDEX, None), D)
    each = mixed.view(*INDEX.shape, heads * D)
    found, wanted = [], []
    for (f, c), length in HELD.items():
        context = CONTEXT[f][~HIDDEN[f]].tolist()
        for t in range(length):
            found.append(each[f, c, t])
            seen = context + (ROOTS + INDEX[f, c, : t + 1]).tolist()
            wanted.append(plain(queries[INDEX[f, c, t]], keys, values, seen))
    assert agree(found, wanted, list(leaves)) < 1e-12


@pytest.mark.parametrize(("heads", "shared"), HEADS)
def test_nodes_without_a_context_see_only_their_segment(heads: int, shared: int) -> None:
    leaves = queries, keys, values = tables(heads, shared)
    index = torch.arange(3, 9).view(1, 2, 3)
    mixed = attend(queries, keys, values, ROOTS, Block(torch.zeros(1, 0, dtype=torch.int64), None, index, 3), D)
    wanted = []
    for node in range(3, 9):
        seen = [ROOTS + place for place in range(3 if node < 6 else 6, node + 1)]
        wanted.append(plain(queries[node], keys, values, seen))
    assert agree(list(mixed), wanted, list(leaves)) < 1e-12


PATHS = torch.tensor([[0, 1, 6, 7, 9], [2, 3, 8, 2, 2], [4, 10, 11, 12, 4], [5, 5, 5, 5, 5]])
ENDS = torch.tensor([4, 2, 3, 0])


@pytest.mark.parametrize("part", [1 << 24, 1])
@pytest.mark.parametrize("which", [[0, 1, 2, 3], [0, 0, 0, 0], [1, 0, 0, 1]])
@pytest.mark.parametrize(("heads", "shared"), HEADS)
def test_reads_see_their_paths(
    heads: int, shared: int, which: list[int], part: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attention, "READ_NUMBERS", part)
    _, keys, values = tables(heads, shared)
    asked = numbers(9, max(which) + 1, heads * D).requires_grad_()
    table = [x.view(len(x), shared, D) for x in (keys, values)]
    mixed = attend_once(asked.view(-1, heads, D), torch.tensor(which), *table, PATHS, ENDS)
    wanted = [
        plain(asked[which[n]], keys, values, path[: end + 1].tolist())
        for n, (path, end) in enumerate(zip(PATHS, ENDS, strict=True))
    ]
    assert agree(list(mixed), wanted, [asked, keys, values]) < 1e-12


def test_what_others_see_may_be_no_number() -> None:
    queries, keys, values = tables(4, 2, torch.float32)
    for table in (keys, values):
        table.data[[ROOTS + 4, ROOTS + 7]] = torch.nan
    each = attend(queries, keys, values, ROOTS, Block(CONTEXT, HIDDEN, INDEX, None), D).view(*INDEX.shape, -1)
    assert each[0].isnan().any()
    assert each[1].isfinite().all()
    rows = (x.view(-1, 2, D) for x in (keys, values))
    paths = attend_once(queries[:4].view(4, 4, D), torch.arange(4), *rows, PATHS, ENDS)
    assert paths.isfinite().all(1).tolist() == [False, True, False, True]
