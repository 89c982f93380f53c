"""`experiment`."""

from pathlib import Path
from typing import Annotated

import typer

from trainer.cli.options import AsJson
from trainer.commands.experiment import run_experiment
from trainer.output import Output


def experiment(
    file: Annotated[Path, typer.Argument(help="What to run, as YAML; docs/experiments.md has every key.")],
    out: Annotated[Path | None, typer.Option(help="Where everything is written; results/NAME unless given.")] = None,
    jobs: Annotated[
        int | None, typer.Option(help="Processes that work at the same time; as many as cores unless given.", min=1)
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Run variants x data sets x seeds x modes on this machine.

    What comes of it are tables, figures, JSON lines and logs.

    Stop it at any time; the same command goes on. Finished runs are never run again, unless a setting of theirs or
    their data changes. Ends with status 1 where a run failed.

    Example: `tripleherd experiment experiments/umls.yaml`
    """
    if not run_experiment(Output(as_json), file, out, jobs):
        raise typer.Exit(1)
