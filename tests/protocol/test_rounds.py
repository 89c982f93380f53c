from typing import Any

import pytest
from pydantic import ValidationError

from protocol.rounds import Evaluation, Metrics, UpdateHeader

HITS = {"hits@1": 0.25, "hits@3": 0.5, "hits@5": 0.75, "hits@10": 1.0}
METRICS = {"mrr": 0.5, **HITS, "mr": 3.5, "amri": -0.25, "mrr_gap": 0.125}
EVALUATION = {"mode": "federation", "split": "valid", "triples": 3, "sides": {"both": METRICS}}


def test_metrics_are_written_under_the_names_that_papers_use() -> None:
    hits = {"hits_at_1": 0.25, "hits_at_3": 0.5, "hits_at_5": 0.75, "hits_at_10": 1}
    metrics = Metrics(mrr=0.5, **hits, mr=3.5, amri=-0.25, mrr_gap=0.125)
    assert metrics.model_dump() == METRICS
    assert Metrics.model_validate_json(metrics.model_dump_json()) == metrics
    assert '"hits@10":1.0' in metrics.model_dump_json()


BOUNDS = {**dict.fromkeys(["mrr", *HITS, "mrr_gap"], (0, 1)), "mr": (1, 1 << 40), "amri": (-1, 1)}


@pytest.mark.parametrize("field", METRICS)
def test_metrics_out_of_range_are_refused(field: str) -> None:
    low, high = BOUNDS[field]
    for value in (low, high):
        assert Metrics.model_validate(METRICS | {field: value}).model_dump()[field] == value
    for value in (low - 1e-6, high + 1e-3, float("nan"), float("inf"), -float("inf"), None):
        with pytest.raises(ValidationError):
            Metrics.model_validate(METRICS | {field: value})


def test_metrics_that_lack_one_or_have_another_are_refused() -> None:
    for metrics in ({"mrr": 0.5, "hits@1": 0.25, "hits@3": 0.5, "hits@10": 1.0}, METRICS | {"hits@20": 1.0}):
        with pytest.raises(ValidationError):
            Metrics.model_validate(metrics)


def perfect() -> Metrics:
    hits = dict.fromkeys(HITS, 1.0)
    return Metrics.model_validate({"mrr": 1.0, **hits, "mr": 1.0, "amri": 1.0, "mrr_gap": 0.0})


def test_a_mean_is_weighted_and_each_field_s_own() -> None:
    one = Metrics.model_validate(METRICS)
    mean = Metrics.mean([perfect(), one], [30, 10]).model_dump()
    assert mean == pytest.approx(
        {name: (3 * value + METRICS[name]) / 4 for name, value in perfect().model_dump().items()}
    )


def test_a_mean_lies_between_what_it_is_of() -> None:
    assert Metrics.mean([perfect()] * 4, [3, 7, 661, 1 << 40]) == perfect()
    same = Metrics.model_validate(METRICS | {"mrr": 0.1, "mr": 1.1, "amri": 0.7})
    assert Metrics.mean([same] * 7, [1 / 3] * 7) == same


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
