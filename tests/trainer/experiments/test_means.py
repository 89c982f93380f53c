import statistics

import pytest

from trainer.experiments.means import Mean, groups

from .records import GRAPH, a_record, a_run, done, results_of


def test_a_mean_has_the_sample_deviation_and_one_value_has_none() -> None:
    values = [0.3, 0.5, 0.1, 0.45]
    mean = Mean.of(values)
    assert (mean.value, mean.deviation) == pytest.approx((statistics.mean(values), statistics.stdev(values)))
    assert (Mean.of([0.3]).value, Mean.of([0.3]).deviation, Mean.of([0.3]).n) == (0.3, None, 1)


def test_groups_hold_each_seed_s_rows_in_the_order_of_the_plan() -> None:
    runs = [a_run("w", 0), a_run("w", 0, "collection"), a_run("v", 0), a_run("w", 1)]
    found = groups(done(*runs))
    assert [(g.variant, g.mode, len(g.seeds)) for g in found] == [
        ("w", "isolation", 2),
        ("w", "collection", 1),
        ("w", "federation", 2),
        ("w", "fusion", 2),
        ("v", "isolation", 1),
        ("v", "federation", 1),
        ("v", "fusion", 1),
    ]
    assert found[0].clients() == ["client_0", "client_1"]


def test_a_seed_counts_with_its_clients_mean_weighted_by_test_triples() -> None:
    run = a_run()
    rows = [row for row in results_of(run) if row.mode == "fusion"]
    heavy = [rows[0], rows[1].model_copy(update={"triples": 3 * len(GRAPH.triples["test"])})]
    (group,) = [g for g in groups([(run, a_record(run, heavy))]) if g.mode == "fusion"]
    expected = 0.25 * heavy[0].sides["tail"].mrr + 0.75 * heavy[1].sides["tail"].mrr
    assert group.metrics("tail")[0].mrr == pytest.approx(expected)
