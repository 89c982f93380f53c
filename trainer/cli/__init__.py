"""The command line: `tripleherd COMMAND --help` shows each command with an example.

Commands read arguments, call plain functions, and print. An error that a user can mend is one line and exit status 2.
"""

import sys
import traceback
from collections.abc import Callable
from importlib import metadata
from typing import Annotated, NoReturn

import typer
from pydantic import ValidationError
from rich.console import Console

from protocol.problems import InvalidRequest, ProblemError
from trainer.checkpoints import HomeUnusable
from trainer.cli import client, data, models, operator
from trainer.cli.experiment import experiment
from trainer.clients.retries import ServiceUnreachable
from trainer.clients.service import AddressWrong, ClockWrong
from trainer.devices import DeviceMissing
from trainer.files import Damaged
from trainer.graph import DataError
from trainer.inputs import UsageError
from trainer.keys import KeyUnusable
from trainer.membership import NotInvited, NotMember, NotRotated
from trainer.processes import ProcessFailed, stop_on_sigterm
from trainer.ranking import ScoresNotFinite
from trainer.remote_model import WrongScorer
from trainer.saved import ModelMissing
from trainer.sharing import NotShared
from trainer.training import TrainingDiverged

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,  # whose tables cut what does not fit a narrow terminal
    pretty_exceptions_enable=False,
    epilog="Ends with status 0 where all went well, 2 after an error that you can mend (one line says how), 1 where a "
    "run of an experiment failed or Tripleherd has a defect, and 130 after Ctrl-C.",
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"tripleherd {metadata.version('tripleherd')}")
        raise typer.Exit


@app.callback()
def options(
    verbose: Annotated[bool, typer.Option("--verbose", help="After an error, show where it arose as well.")] = False,
    version: Annotated[
        bool,
        typer.Option(
            "--version", is_eager=True, callback=_print_version, help="Print the version; all sites need one."
        ),
    ] = False,
) -> None:
    """Federated knowledge graph embeddings, scored by a frozen LLaMA over REST."""
    _Errors.traced = verbose


app.command()(models.demo)
app.command()(data.split)
app.command()(data.convert)
app.command()(operator.start)
app.command()(client.join)
app.add_typer(client.keys, name="keys")
app.command()(client.leave)
app.add_typer(operator.coordinator, name="coordinator")
app.command()(models.train)
app.command()(models.evaluate)
app.command()(models.fuse)
app.command()(models.predict)
app.command()(experiment)

EXPECTED = (
    AddressWrong,
    ClockWrong,
    Damaged,
    DataError,
    DeviceMissing,
    HomeUnusable,
    KeyUnusable,
    ModelMissing,
    NotInvited,
    NotMember,
    NotRotated,
    NotShared,
    OSError,
    ProblemError,
    ProcessFailed,
    ScoresNotFinite,
    ServiceUnreachable,
    TrainingDiverged,
    UsageError,
    WrongScorer,
)


class _Errors:
    """How errors are told."""

    traced = False


def main() -> NoReturn:
    """Run a command."""
    run_program(app)


def run_program(call: Callable[[], object]) -> NoReturn:
    """Run something as a program: expected errors become one line and exit status 2."""
    stop_on_sigterm()
    try:
        call()
    except EXPECTED as error:
        _fail(error)
    except ValidationError as error:
        _fail(UsageError(InvalidRequest.from_validation(error).detail.removeprefix("body: ")))
    sys.exit(0)


def _fail(error: Exception) -> NoReturn:
    if _Errors.traced:
        traceback.print_exception(error)
    Console(stderr=True).print(f"error: {error}", style="red", soft_wrap=True, highlight=False, markup=False)
    sys.exit(2)
