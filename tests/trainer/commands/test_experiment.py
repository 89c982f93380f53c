from pathlib import Path

import pytest

from tests.trainer.experiments.records import a_run, done
from trainer.commands.experiment import _Results
from trainer.experiments import tracking
from trainer.experiments.schema import Experiment

pytest.importorskip("tensorboard", reason="tensorboard is not installed")


def test_a_tracker_that_fails_is_asked_once_for_each_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def fails(out: Path, name: str, run: object, record: object) -> None:
        asked.append(run)
        raise ConnectionError("nobody answers")

    monkeypatch.setitem(tracking._LOGS, "mlflow", fails)
    described = {"data": {"umls": {"folder": "d"}}, "variants": {"t": {"interaction": "transe"}}, "track": ["mlflow"]}
    results = _Results(Experiment.model_validate({"name": "one"} | described), tmp_path)
    found = done(a_run("t", 0), a_run("t", 1))
    for run, _ in found:
        (tmp_path / "runs" / run.folder).mkdir(parents=True)
    for number in range(3):
        results.publish(found[:number])
    assert asked == [run for run, _ in found]
    assert results.unlogged == [f"{run.label}: not logged to mlflow: nobody answers" for run, _ in found]
