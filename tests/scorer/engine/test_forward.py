from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from services.scorer.engine.forest import Forest, plant
from services.scorer.engine.forward import Forward
from services.scorer.engine.trees import Part, Prompts, Root

from ..models import difference, exact, tiny
from .calls import DEEP, SHAPES, exact_model, model
from .test_trees import rows_of

CPU = torch.device("cpu")
WORDS = [[1, 2, 3, 4], [], [5, 6]]
"""What three templates begin with, as rows of the bank."""
TEXTS = [
    [[7, 8, 9], [10, 11], [7, 7, 7, 7]],
    [[12, 13], [14], [15, 16, 17]],
    [[18], [19, 18, 17, 16, 15, 14, 13], [20, 21]],
]
CHOICES = [(0, 0, 0), (0, 0, 1), (0, 0, 2), (0, 1, 0), (1, 2, 1), (2, 0, 2), (0, 0, 1)]


def vectors(dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(22, 32, generator=torch.Generator().manual_seed(7), dtype=torch.float64).to(dtype)


def begun(model: Any, bank: Tensor) -> tuple[Forward, list[Root]]:
    """The forward pass of a model that knows three templates' first words."""
    forward, roots = Forward(model), []
    for words in WORDS:
        start = 0
        if words:
            none = np.zeros(1, dtype=np.int64)
            prompts = Prompts(Root(0, 0), [[Part(rows_of([words]), none)]], none + 1)
            forest = plant([prompts.tree(slice(0, 1), forward.roots)], forward.roots, CPU)
            start = forward.add_root(bank[forest.pairs[0]], forest)
        roots.append(Root(start, len(words)))
    return forward, roots


def grown(
    forward: Forward, roots: Sequence[Root], reads: int = 1, share: bool = True
) -> tuple[Forest, list[list[int]]]:
    """A forest of three trees, one a template; the rows that each read should see, itself last."""
    trees, seen = [], []
    for root, words in zip(roots, WORDS, strict=True):
        columns = np.array(CHOICES).T
        chunks = [[Part(rows_of(lists), which)] for lists, which in zip(TEXTS, columns, strict=True)]
        prompts = Prompts(root, chunks, np.full(len(CHOICES), reads), share=share)
        [piece] = prompts.pieces(1000)
        trees.append(prompts.tree(piece.at, forward.roots))
        for number in piece.numbers:
            rows = [*words, *(row for lists, n in zip(TEXTS, CHOICES[number], strict=True) for row in lists[n])]
            seen += [rows[: len(rows) - later] for later in range(reads - 1, -1, -1)]
    return plant(trees, forward.roots, CPU), seen


def plain(model: Any, bank: Tensor, seen: list[list[int]], layer: int) -> Tensor:
    """hidden_states[layer] at the end of each, one call of the model each."""
    found = (model.model(inputs_embeds=bank[rows][None], output_hidden_states=True).hidden_states for rows in seen)
    return torch.stack([states[layer][0, -1] for states in found])


def off(model: Any, bank: Tensor, layer: int, reads: int = 1, share: bool = True) -> tuple[float, float]:
    """How far states and gradients are from those of plain calls."""
    forward, roots = begun(model, bank)
    forest, seen = grown(forward, roots, reads, share)
    ours, theirs = bank.clone().requires_grad_(), bank.clone().requires_grad_()
    states = forward.states(ours[torch.cat(forest.pairs)], forest, layer)
    # The first words carry no gradient: they are the same for all.
    parts = [[row if row > 6 else row + 22 for row in rows] for rows in seen]
    wanted = plain(model, torch.cat([theirs, bank]), parts, layer)
    weights = torch.randn(states.shape, generator=torch.Generator().manual_seed(8), dtype=torch.float64).to(bank)
    gradients = [torch.autograd.grad(x, leaf, weights)[0] for x, leaf in ((states, ours), (wanted, theirs))]
    return difference(states.detach(), wanted.detach()), difference(*gradients)


@pytest.mark.parametrize("reads", [1, 3])
@pytest.mark.parametrize("shape", SHAPES)
def test_states_and_gradients_agree_with_plain_calls(shape: str, reads: int) -> None:
    for layer in range(1, SHAPES[shape]["layers"] + 1):
        assert max(off(exact_model(shape), vectors(), layer, reads)) < 1e-10


def test_single_precision_is_close() -> None:
    for shape in SHAPES:
        assert max(off(model(shape), vectors(torch.float32), SHAPES[shape]["layers"])) < 1e-4


@pytest.mark.parametrize("shape", ["one layer", "one layer, grouped queries"])
def test_one_layer_needs_no_sharing(shape: str) -> None:
    assert max(off(exact_model(shape), vectors(), 1, share=False)) < 1e-10


def test_reads_that_all_ask_the_same_agree_with_plain_calls() -> None:
    """One layer, equal lengths, and one last word: the query is one."""
    for shape in ("one layer", "one layer, grouped queries"):
        forward, (root, *_) = begun(exact_model(shape), vectors())
        which = np.array([0, 1, 2])
        chunk = [Part(rows_of([[7, 8], [9, 10], [7, 11]]), which), Part(rows_of([[12]]), np.zeros(3, dtype=np.int64))]
        prompts = Prompts(root, [chunk], np.ones(3, dtype=np.int64), share=False)
        [piece] = prompts.pieces(1000)
        forest = plant([prompts.tree(piece.at, forward.roots)], forward.roots, CPU)
        states = forward.states(vectors()[forest.pairs[0]], forest, 1)
        texts = [[7, 8], [9, 10], [7, 11]]
        wanted = plain(exact_model(shape), vectors(), [[*WORDS[0], *texts[n], 12] for n in piece.numbers], 1)
        assert difference(states, wanted) < 1e-10


def test_gradients_agree_with_finite_differences() -> None:
    forward, roots = begun(exact_model("two layers, grouped queries"), vectors())
    forest, _ = grown(forward, roots)
    rows = vectors()[torch.cat(forest.pairs)]
    spread = torch.randn(len(rows), 2, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
    moved = torch.zeros(2, 32, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: forward.states(rows + spread @ x, forest, 2).sum(0), (moved,))


def test_layers_after_the_one_that_is_read_do_not_run() -> None:
    shallow = exact(tiny(**SHAPES[DEEP]))
    forward, roots = begun(shallow, vectors())
    forest, seen = grown(forward, roots)
    wanted = plain(shallow, vectors(), seen, 2)
    shallow.model.layers[2].self_attn.q_proj.register_forward_pre_hook(lambda *_: pytest.fail("it runs"))
    assert difference(forward.states(vectors()[torch.cat(forest.pairs)], forest, 2), wanted) < 1e-10


def test_first_words_run_once_and_not_again_with_the_prompts() -> None:
    forward, roots = begun(exact_model(DEEP), vectors())
    forest, seen = grown(forward, roots)
    assert forward.roots == sum(map(len, WORDS))
    assert len(forest.nodes) < sum(map(len, seen)) - len(CHOICES) * forward.roots


def test_weights_stay_without_gradients() -> None:
    frozen = exact_model(DEEP)
    off(frozen, vectors(), 3)
    assert not any(weight.requires_grad or weight.grad is not None for weight in frozen.parameters())
