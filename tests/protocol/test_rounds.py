from typing import Any

import pytest
from pydantic import ValidationError

from protocol.rounds import Evaluation, Metrics, UpdateHeader

METRICS = {"mrr": 0.5, "hits@1": 0.25, "hits@3": 0.5, "hits@10": 1.0}
EVALUATION = {"mode": "federation", "split": "valid", "triples": 3, "sides": {"both": METRICS}}


def test_metrics_are_written_under_the_names_that_papers_use() -> None:
    metrics = Metrics(mrr=0.5, hits_at_1=0.25, hits_at_3=0.5, hits_at_10=1)
    assert metrics.model_dump() == METRICS
    assert Metrics.model_validate_json(metrics.model_dump_json()) == metrics
    assert '"hits@10":1.0' in metrics.model_dump_json()


@pytest.mark.parametrize("change", [{"mrr": 1.01}, {"mrr": float("nan")}, {"hits@3": -0.1}, {"hits@5": 0.5}])
def test_metrics_out_of_range_or_unknown_are_refused(change: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        Metrics.model_validate(METRICS | change)


def test_an_evaluation_crosses_the_wire() -> None:
    evaluation = Evaluation.model_validate(EVALUATION)
    assert Evaluation.model_validate_json(evaluation.model_dump_json()) == evaluation


@pytest.mark.parametrize(
    "change", [{"sides": {"tail": METRICS}}, {"sides": {}}, {"triples": 0}, {"split": "train"}, {"mode": "alone"}]
)
def test_an_evaluation_that_selects_nothing_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Evaluation.model_validate(EVALUATION | change)


@pytest.mark.parametrize("change", [{"triples": 0}, {"loss": float("nan")}, {"loss": float("inf")}])
def test_an_update_without_triples_or_with_a_lost_loss_is_refused(change: dict[str, Any]) -> None:
    UpdateHeader.model_validate({"triples": 1, "loss": -0.5})
    with pytest.raises(ValidationError):
        UpdateHeader.model_validate({"triples": 1, "loss": -0.5} | change)
