"""Finished runs as TensorBoard, MLflow and Weights & Biases show them: settings, validation by round, test metrics.

Each run is logged once by each: a mark in its folder says so. Where the two others keep what they get is theirs to
know: MLflow by `MLFLOW_TRACKING_URI`, W&B by its own variables, `WANDB_MODE=offline` for one.
"""

import hashlib
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from trainer.experiments.extras import needed
from trainer.experiments.means import Done
from trainer.experiments.plan import Run
from trainer.experiments.record import Record
from trainer.experiments.schema import Tracker
from trainer.results import means

Points = list[tuple[int, dict[str, float]]]
Log = Callable[[Path, str, Run, Record], None]
"""Given the experiment's folder and name, a run and its record."""


def requirements(trackers: list[Tracker]) -> None:
    """Refuse what cannot be logged to before anything runs.

    Raises:
        UsageError: A package is not installed.
    """
    for name in trackers:
        needed(name, name)


def track(out: Path, name: str, done: Done, trackers: list[Tracker]) -> list[str]:
    """Log each run that is not logged yet; returns what could not be."""
    failed = []
    for run, record in done:
        for tracker in ("tensorboard", *trackers):
            mark = out / "runs" / run.folder / f"logged-{tracker}"
            if mark.exists():
                continue
            try:
                _LOGS[tracker](out, name, run, record)
            except Exception as error:  # whatever another program raises must not cost a run
                failed.append(f"{run.label}: not logged to {tracker}: {error}")
            else:
                mark.touch()
    return failed


def points(run: Run, record: Record) -> Points:
    """What there is at each step: loss and validation metrics after so many rounds, and at the last, test metrics."""
    found: Points = []
    for each in record.training.history if record.training else []:
        metrics = {} if each.loss is None else {"train/loss": each.loss}
        for side, values in (each.valid or {}).items():
            metrics |= {f"valid/{side}/{_plain(name)}": value for name, value in values.model_dump().items()}
        found.append((each.round - 1, metrics))
    last = found[-1][0] if found else 0
    return [*found, (last, dict(_test_metrics(run, record)))]


def _test_metrics(run: Run, record: Record) -> Iterator[tuple[str, float]]:
    for mode in run.modes:
        results = [result for result in record.results if result.mode == mode]
        for side in results[0].sides if results else ():
            for name, value in means(results, side)["weighted"].model_dump().items():
                yield f"test/{mode}/{side}/{_plain(name)}", value


def _plain(name: str) -> str:
    return name.replace("@", "_at_")  # MLflow takes no @


def _settings(run: Run, record: Record) -> dict[str, str]:
    """Every setting as text, those of `local` and others by their path."""
    parameters = {"data": run.data, "variant": run.variant, "kind": run.kind}
    return parameters | dict(_flat("", record.settings.model_dump(mode="json")))


def _flat(prefix: str, values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _flat(f"{prefix}{name}.", value)
        else:
            yield prefix + name, str(value)


def _tensorboard(out: Path, name: str, run: Run, record: Record) -> None:
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.summary.writer.event_file_writer import EventFileWriter

    folder = out / "tensorboard" / run.folder
    shutil.rmtree(folder, ignore_errors=True)  # of a run that was logged in part
    writer = EventFileWriter(str(folder))
    for step, metrics in points(run, record):
        values = [Summary.Value(tag=tag, simple_value=value) for tag, value in metrics.items()]
        writer.add_event(Event(wall_time=time.time(), step=step, summary=Summary(value=values)))
    writer.close()


def _mlflow(out: Path, name: str, run: Run, record: Record) -> None:
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Param

    uri = os.environ.get("MLFLOW_TRACKING_URI", f"sqlite:///{(out / 'mlflow.db').resolve()}")
    client = MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name(name)
    identity = experiment.experiment_id if experiment else client.create_experiment(name)
    logged = client.create_run(identity, run_name=run.label, tags={"tripleherd.digest": run.digest}).info.run_id
    client.log_batch(logged, params=[Param(*each) for each in _settings(run, record).items()])
    now = int(1000 * time.time())
    for step, metrics in points(run, record):
        client.log_batch(logged, metrics=[Metric(key, number, now, step) for key, number in metrics.items()])
    client.set_terminated(logged)


def _wandb(out: Path, name: str, run: Run, record: Record) -> None:
    import wandb

    # Its id makes a run that was logged in part be logged over. Variants that are alike have the same digest.
    logged = wandb.init(
        project=name,
        name=run.label,
        id=hashlib.sha256(run.folder.encode()).hexdigest()[:32],
        group=f"{run.data} {run.variant}",
        config=_settings(run, record),
        dir=str(out),
        settings=wandb.Settings(silent=True, console="off", disable_git=True),
    )
    for step, metrics in points(run, record):
        logged.log(metrics, step=step)
    logged.finish()


_LOGS: dict[str, Log] = {"tensorboard": _tensorboard, "mlflow": _mlflow, "wandb": _wandb}
