import numpy as np
import pytest
import torch

from services.scorer.engine.forward import Batch, Forward

from ..models import LLAMA3_ROPE, difference, exact, tiny

SHAPES = [
    pytest.param(dict(layers=1, kv_heads=4), id="one layer"),
    pytest.param(dict(layers=1, kv_heads=2), id="one layer, grouped queries"),
    pytest.param(dict(layers=3, kv_heads=4), id="three layers"),
    pytest.param(dict(layers=3, kv_heads=1, rope=LLAMA3_ROPE), id="three layers, grouped queries, scaled rotation"),
]


def compare(model, dtype: torch.dtype, shared: int) -> tuple[float, float]:
    """How far states and gradients are from those of one plain call a prompt."""
    generator = torch.Generator().manual_seed(7)
    bank = torch.randn(12, 32, generator=generator, dtype=dtype)
    first = torch.randn(shared, 32, generator=generator, dtype=dtype)
    lengths = [5, 9, 1, 9]
    prompts = [torch.randint(0, 12, (n,), generator=generator) for n in lengths]
    weights = torch.randn(len(lengths), 32, generator=generator, dtype=dtype)

    plain = bank.clone().requires_grad_()
    wanted = torch.stack(
        [model.model(inputs_embeds=torch.cat([first, plain[p]])[None]).last_hidden_state[0, -1] for p in prompts]
    )
    (wanted_gradient,) = torch.autograd.grad(wanted, plain, weights)

    # Every (row, position) pair as a row of its own.
    padded = torch.zeros(len(lengths), 9, dtype=torch.long)
    for number, prompt in enumerate(prompts):
        padded[number, : len(prompt)] = prompt
    pairs, index = torch.unique(padded * 9 + torch.arange(9), return_inverse=True)
    forward = Forward(model)
    ours = bank.clone().requires_grad_()
    batch = Batch(pairs % 9, index, torch.tensor(lengths) - 1)
    states = forward.states(ours[pairs // 9], batch, forward.prefix(first))
    (gradient,) = torch.autograd.grad(states, ours, weights)
    return difference(states.detach(), wanted.detach()), difference(gradient, wanted_gradient)


@pytest.mark.parametrize("shared", [0, 3])
@pytest.mark.parametrize("shape", SHAPES)
def test_agrees_with_plain_calls(shape: dict, shared: int) -> None:
    assert max(compare(tiny(**shape), torch.float32, shared)) < 1e-5
    assert max(compare(exact(tiny(**shape)), torch.float64, shared)) < 1e-10


def test_gradients_agree_with_finite_differences() -> None:
    forward = Forward(exact(tiny(layers=2)))
    rows = torch.randn(3, 32, dtype=torch.float64, requires_grad=True)
    batch = Batch(torch.tensor([0, 1, 1]), torch.tensor([[0, 1], [0, 2]]), torch.tensor([1, 1]))
    prefix = forward.prefix(torch.randn(2, 32, dtype=torch.float64))
    assert torch.autograd.gradcheck(lambda r: forward.states(r, batch, prefix).sum(0), (rows,))


def test_padding_changes_nothing() -> None:
    forward = Forward(tiny())
    rows = torch.randn(3, 32)
    prefix = forward.prefix(torch.randn(2, 32))
    positions = torch.tensor([0, 1, 2])
    alone = forward.states(rows, Batch(positions, torch.tensor([[0, 1]]), torch.tensor([1])), prefix)
    padded = forward.states(rows, Batch(positions, torch.tensor([[0, 1, 0], [0, 1, 2]]), torch.tensor([1, 2])), prefix)
    np.testing.assert_allclose(padded[0], alone[0], atol=1e-6)
