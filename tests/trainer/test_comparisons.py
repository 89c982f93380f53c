from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from trainer import kernels
from trainer.comparisons import Comparison

from .support import threads

Q, N, M, DIM = 37, 150, 9, 14


def dot(q: Tensor, c: Tensor) -> Tensor:
    return (q * c).sum(dim=-1)


def manhattan(q: Tensor, c: Tensor) -> Tensor:
    return -(q - c).abs().sum(dim=-1)


def moduli(q: Tensor, c: Tensor) -> Tensor:
    real, imaginary = (q - c).chunk(2, dim=-1)
    return -(real**2 + imaginary**2 + 1e-12).sqrt().sum(dim=-1)


FORMULAS = {Comparison.DOT: dot, Comparison.L1: manhattan, Comparison.MODULUS: moduli}
FORMS = ("pairs", "chosen", "chosen without kernels")


def inputs(seed: int = 0, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Query, rows, an index and weights of scores; some rows are met by nobody, some equal a query."""
    generator = torch.Generator().manual_seed(seed)
    query = torch.randn(Q, DIM, generator=generator, dtype=dtype)
    rows = torch.randn(N, DIM, generator=generator, dtype=dtype)
    rows[:5] = query[:5]
    index = torch.randint(0, N // 2, (Q, M), generator=generator)
    index[0, :3] = 0
    weights = torch.randn(Q, N, generator=generator, dtype=dtype)
    return query.requires_grad_(), rows.requires_grad_(), index, weights


def scores(kind: Comparison, form: str, query: Tensor, rows: Tensor, index: Tensor) -> Tensor:
    if form == "pairs":
        return kind.pairs(query, rows)
    return kind.chosen(query, rows, index) if form == "chosen" else kind._in_parts(query, rows, index)


def expected(
    formula: Callable[[Tensor, Tensor], Tensor], form: str, query: Tensor, rows: Tensor, index: Tensor
) -> Tensor:
    return formula(query[:, None], rows if form == "pairs" else rows[index])


@pytest.mark.parametrize("kind", Comparison)
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("count", [1, 2])
def test_scores_and_gradients_are_those_of_the_written_out_formula(kind: Comparison, form: str, count: int) -> None:
    query, rows, index, weights = inputs()
    with threads(count):
        found = scores(kind, form, query, rows, index)
        (found * weights[:, : found.shape[1]]).sum().backward()
    ours = [query.grad, rows.grad]
    query, rows, index, weights = inputs()
    wanted = expected(FORMULAS[kind], form, query, rows, index)
    (wanted * weights[:, : wanted.shape[1]]).sum().backward()
    torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(ours, [query.grad, rows.grad], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("kind", Comparison)
@pytest.mark.parametrize("form", FORMS[:2])
def test_bytes_do_not_depend_on_the_number_of_threads(kind: Comparison, form: str) -> None:
    made = []
    for count in (1, 2, 5):
        query, rows, index, weights = inputs(dtype=torch.float32)
        with threads(count):
            found = scores(kind, form, query, rows, index)
            (found * weights[:, : found.shape[1]]).sum().backward()
        assert query.grad is not None
        assert rows.grad is not None
        made.append([tensor.detach().numpy().tobytes() for tensor in (found, query.grad, rows.grad)])
    assert made[0] == made[1]
    if form != "pairs" or kind is not Comparison.DOT:  # torch's own product
        assert made[0] == made[2]


@pytest.mark.parametrize("kind", Comparison)
def test_parts_without_kernels_are_as_one(kind: Comparison, monkeypatch: pytest.MonkeyPatch) -> None:
    query, rows, index, _ = inputs()
    whole = kind._in_parts(query, rows, index)
    monkeypatch.setattr("trainer.comparisons.NUMBERS_AT_ONCE", 5 * M * DIM)
    torch.testing.assert_close(kind._in_parts(query, rows, index), whole)


@pytest.mark.parametrize("kind", Comparison)
def test_nobody_to_compare_is_no_error(kind: Comparison) -> None:
    query, rows, index, _ = inputs()
    assert kind.pairs(query[:0], rows).shape == (0, N)
    assert kind.chosen(query[:0], rows, index[:0]).shape == (0, M)
    assert kind._in_parts(query[:0], rows, index[:0]).shape == (0, M)
    assert kind.chosen(query, rows, index[:, :0]).shape == (Q, 0)


@pytest.mark.parametrize("kind", Comparison)
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_no_number_stays_so(kind: Comparison, value: float) -> None:
    query, rows, index, _ = (tensor.detach() for tensor in inputs(dtype=torch.float32))
    rows[7, 3] = value
    index[:, 1] = 7
    assert not torch.isfinite(kind.pairs(query, rows)[:, 7]).any()
    assert not torch.isfinite(kind.chosen(query, rows, index)[:, 1]).any()
    assert torch.isfinite(kind.pairs(query, rows)[:, :7]).all()


def test_rows_are_read_in_their_order() -> None:
    index = torch.tensor([[3, 1, 3], [0, 3, 1]]).numpy()
    places, bounds = kernels.by_row(index, 5)
    assert places.tolist() == [3, 1, 5, 0, 2, 4]
    assert bounds.tolist() == [0, 1, 3, 3, 6, 6]


def test_only_dot_products_are_no_distance() -> None:
    assert [kind.distance for kind in Comparison] == [False, True, True]
