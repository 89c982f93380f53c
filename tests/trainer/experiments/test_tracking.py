import sys
import time
from pathlib import Path

import pytest

from trainer.experiments.extras import needed
from trainer.experiments.tracking import points, requirements, track
from trainer.inputs import UsageError
from trainer.results import means

from .records import a_record, a_run, a_training, done, results_of

RUN = a_run("t", 3)
MRR = a_training().history[2].valid["both"].mrr
TEST = means([row for row in results_of(RUN) if row.mode == "fusion"], "tail")["weighted"].mrr


MLFLOW_WARNS = pytest.mark.filterwarnings("ignore::DeprecationWarning")
"""Of what it uses of SQLAlchemy."""


def folder_of(out: Path) -> Path:
    folder = out / "runs" / RUN.folder
    folder.mkdir(parents=True)
    return folder


def test_points_are_placed_after_the_rounds_that_made_them_and_end_with_the_test() -> None:
    found = points(RUN, a_record(RUN))
    assert [step for step, _ in found] == [0, 1, 2, 3, 4, 4]
    assert found[0][1] == {"train/loss": 1.0}
    assert found[2][1]["valid/both/mrr"] == MRR
    assert found[-1][1]["test/fusion/tail/mrr"] == TEST
    assert not any("@" in name for _, metrics in found for name in metrics)


def test_tensorboard_reads_what_was_logged_and_each_run_is_logged_once(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folder_of(tmp_path)
    for _ in range(2):
        assert track(tmp_path, "one", done(RUN), []) == []
    (events,) = (tmp_path / "tensorboard" / RUN.folder).iterdir()
    read = EventAccumulator(str(events)).Reload()
    assert [(e.step, e.value) for e in read.Scalars("valid/both/mrr")] == [
        (2, pytest.approx(MRR)),
        (4, pytest.approx(MRR)),
    ]
    assert [(e.step, e.value) for e in read.Scalars("test/fusion/tail/mrr")] == [(4, pytest.approx(TEST))]


@MLFLOW_WARNS
def test_mlflow_finds_settings_and_metrics_in_its_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mlflow", reason="mlflow-skinny is not installed")
    from mlflow import MlflowClient

    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    folder_of(tmp_path)
    assert track(tmp_path, "one", done(RUN), ["mlflow"]) == []
    client = MlflowClient(tracking_uri=f"sqlite:///{tmp_path}/mlflow.db")
    experiment = client.get_experiment_by_name("one")
    (logged,) = client.search_runs([experiment.experiment_id])
    assert logged.info.run_name == RUN.label
    assert logged.info.status == "FINISHED"
    assert logged.data.params["local.batch_size"] == "64"
    assert logged.data.params["seed"] == "3"
    assert logged.data.metrics["test/fusion/tail/mrr"] == TEST
    history = client.get_metric_history(logged.info.run_id, "valid/both/mrr")
    assert [(metric.step, metric.value) for metric in history] == [(2, MRR), (4, MRR)]


def test_wandb_keeps_runs_for_later_where_it_is_offline_alike_or_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("wandb", reason="wandb is not installed")
    monkeypatch.setenv("WANDB_MODE", "offline")
    alike = a_run("of-the-same-settings", 3)
    assert alike.digest == RUN.digest
    for run in (RUN, alike):
        (tmp_path / "runs" / run.folder).mkdir(parents=True)
        assert track(tmp_path, "one", done(run), ["wandb"]) == []
    files = {file.name: file for file in (tmp_path / "wandb").glob("offline-run-*/run-*.wandb")}
    assert len(files) == 2  # by their ids
    file = min(files.values(), key=lambda file: file.parent.name)
    deadline = time.monotonic() + 30
    while file.stat().st_size < 1000 and time.monotonic() < deadline:
        time.sleep(0.05)  # its own process writes the rest
    content = file.read_bytes()
    for word in (RUN.label, "local.batch_size", "valid/both/mrr", "test/fusion/tail/mrr", str(TEST)):
        assert word.encode() in content


@MLFLOW_WARNS
def test_what_cannot_be_logged_is_told_and_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mlflow", reason="mlflow-skinny is not installed")
    (tmp_path / "file").touch()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/file/is-no-folder.db")
    folder = folder_of(tmp_path)
    for _ in range(2):
        (said,) = track(tmp_path, "one", done(RUN), ["mlflow"])
        assert said.startswith(f"{RUN.label}: not logged to mlflow: ")
    assert {file.name for file in folder.iterdir()} == {"logged-tensorboard"}


def test_a_package_that_is_missing_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match=r"no_such_package is not installed.*pip install '\.\[experiments\]'"):
        needed("no_such_package", "experiments")
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(UsageError, match=r"wandb is not installed.*'\.\[wandb\]'"):
        requirements(["wandb"])
