import pytest

from protocol.rounds import Evaluation
from services.coordinator.rounds.means import mean_evaluation

from ..support import evaluation


def test_means_are_weighted_by_triples() -> None:
    mean = mean_evaluation([evaluation(0.2, 1), evaluation(0.6, 3)])
    assert (mean.clients, mean.triples, mean.mode, mean.split) == (2, 4, "federation", "valid")
    assert mean.sides["both"].mrr == pytest.approx(0.5)
    assert mean.sides["both"].hits_at_1 == pytest.approx(0.25)
    assert list(mean.sides) == ["both"]


def test_plain_means_are_of_clients() -> None:
    mean = mean_evaluation([evaluation(0.2, 1), evaluation(0.6, 3)])
    assert mean.macro["both"].mrr == pytest.approx(0.4)
    assert mean.macro["both"].amri == pytest.approx(-0.6)
    assert list(mean.macro) == ["both"]


def test_a_side_counts_where_it_is_reported() -> None:
    head, both = evaluation(0.9).sides["both"], evaluation(0.2, 7)
    more = Evaluation.model_validate(both.model_dump() | {"sides": both.sides | {"head": head}})
    mean = mean_evaluation([more, both])
    assert mean.sides["head"].mrr == mean.macro["head"].mrr == pytest.approx(0.9)
    assert mean.sides["both"].mrr == pytest.approx(0.2)
