from collections.abc import Sequence

import numpy as np
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from services.scorer.engine.forest import Forest, plant
from services.scorer.engine.trees import Root, Tree

from .test_trees import ROOTS, Call, calls, seen, walks

CPU = torch.device("cpu")


def trees(some: Sequence[Call], share: bool = True) -> list[Tree]:
    return [call.prompts(share).tree(slice(0, len(call.choices)), ROOTS) for call in some]


def shifted(places: Sequence[int], at: int) -> list[int]:
    """Indices into one tree's table, as indices into the table of all."""
    return [place + at if place >= ROOTS else place for place in places]


def contexts(forest: Forest) -> dict[int, list[int]]:
    """What each node sees, itself last, by the blocks."""
    flat = torch.cat([block.index.flatten() for block in forest.blocks])
    count = len(forest.nodes)
    places = torch.arange(count) if forest.places is None else forest.places
    assert forest.places is not None or len(flat) == count
    assert torch.equal(flat[places], torch.arange(count))
    found: dict[int, list[int]] = {}
    base = 0
    real = set(places.tolist())
    for block in forest.blocks:
        families, segments, length = block.index.shape
        for f, c, t in np.ndindex(families, segments, length):
            if base + (f * segments + c) * length + t not in real:
                continue
            context = block.context[f] if block.hidden is None else block.context[f][~block.hidden[f]]
            own = (ROOTS + block.index[f, c, : t + 1]).tolist()
            found[int(block.index[f, c, t])] = context.tolist() + own
        base += block.index.numel()
    return found


SHORT_LAST = Call(Root(0, 2), [([[1]], [2]), ([[3, 4, 5], [6, 7]], [8])], [(0, 0), (0, 1)], [1, 1])
"""The only padding comes after all nodes."""


@given(some=st.lists(calls(), min_size=1, max_size=4))
@example(some=[SHORT_LAST])
@settings(deadline=None)
def test_every_node_attends_to_what_its_tree_says(some: list[Call]) -> None:
    planted = trees(some)
    forest = plant(planted, ROOTS, CPU)
    wanted, at = {}, 0
    for tree in planted:
        wanted |= {at + node: shifted(places, at) for node, places in seen(tree).items()}
        at += len(tree.rows)
    assert contexts(forest) == wanted


@given(some=st.lists(calls(), min_size=1, max_size=4), share=st.booleans())
@settings(deadline=None)
def test_every_read_sees_its_trees_path(some: list[Call], share: bool) -> None:
    planted = trees(some, share)
    forest = plant(planted, ROOTS, CPU)
    found = [path[: end + 1].tolist() for path, end in zip(forest.paths, forest.ends.tolist(), strict=True)]
    wanted, at = [], 0
    for tree in planted:
        wanted += [shifted(path, at) for _, path in walks(tree)]
        at += len(tree.rows)
    assert found == wanted
    assert share or not forest.blocks


@given(some=st.lists(calls(), min_size=1, max_size=4))
@settings(deadline=None)
def test_a_row_at_a_position_is_one_pair_of_its_tree(some: list[Call]) -> None:
    planted = trees(some)
    forest = plant(planted, ROOTS, CPU)
    rows = torch.cat(forest.pairs)[forest.nodes].tolist()
    assert rows == [row for tree in planted for row in tree.rows.tolist()]
    assert forest.pair_positions[forest.nodes].tolist() == forest.positions.tolist()
    assert forest.positions.tolist() == [place for tree in planted for place in tree.positions.tolist()]
    sizes = [len(set(zip(tree.rows.tolist(), tree.positions.tolist(), strict=True))) for tree in planted]
    assert [len(pairs) for pairs in forest.pairs] == sizes


@given(some=st.lists(calls(), min_size=1, max_size=3))
@settings(deadline=None)
def test_a_block_takes_its_nodes_of_a_table_with_others_before_them(some: list[Call]) -> None:
    forest = plant(trees(some), ROOTS, CPU)
    table = torch.arange(ROOTS + len(forest.nodes), dtype=torch.float64)[:, None]
    for block in forest.blocks:
        wanted = table[ROOTS:][block.index.flatten()]
        assert torch.equal(block.take(table[ROOTS:]), wanted)
        assert torch.equal(block.take(table, ROOTS), wanted)


def test_families_of_unlike_shapes_are_not_padded_to_one() -> None:
    narrow = Call(Root(0, 2), [([[1]], [2])], [(0,)], [1])
    wide = Call(Root(0, 2), [([[1] * 40], [2])], [(0,)], [1])
    forest = plant(trees([narrow, wide, narrow]), ROOTS, CPU)
    assert sorted(block.index.numel() for block in forest.blocks) == [4, 41]


def test_paths_of_pairs_lead_over_the_same_rows() -> None:
    call = Call(Root(1, 2), [([[1, 2], [3]], [4])], [(0,), (1,), (0,)], [1, 1, 1])
    forest = plant(trees([call]), ROOTS, CPU)
    roots = torch.arange(ROOTS)
    by_node = torch.cat([-1 - roots, forest.pairs[0][forest.nodes]])[forest.paths]
    by_pair = torch.cat([-1 - roots, forest.pairs[0]])[forest.pair_paths(ROOTS)]
    assert torch.equal(by_node, by_pair)
