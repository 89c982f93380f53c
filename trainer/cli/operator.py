"""`start`, and `coordinator` with everything else that an operator does."""

from pathlib import Path
from typing import Annotated

import typer

from protocol.trainings import StrategyName, WireDtype
from trainer.cli.options import (
    HERE,
    Adapter,
    AsJson,
    CoordinatorUrl,
    Dim,
    EvaluateEvery,
    Interaction,
    LearningRate,
    LocalEpochs,
    Loss,
    OperatorTokenFile,
    Patience,
    Preset,
    ReadAfter,
    Readout,
    Rounds,
    Scorer,
    ScorerKeyFile,
    Seed,
    ShareRows,
    Templates,
    Texts,
    TieTolerance,
    Vectors,
    local_options,
)
from trainer.clients.coordinator import Coordinator
from trainer.commands import operator
from trainer.commands.operator import OperatorAt
from trainer.inputs import ScorerAt
from trainer.output import Output

PageAddress = Annotated[
    str | None,
    typer.Option(
        help="Address of the coordinator for people, where it is another than for this command.",
        envvar="TRAINER_PAGE_ADDRESS",
    ),
]
coordinator = typer.Typer(
    help="Watch, steer and export, as the coordinator's operator.\n\n"
    "Example: `tripleherd coordinator clients --operator-token-file operator`",
    no_args_is_help=True,
)


def start(
    operator_token_file: OperatorTokenFile,
    coordinator: CoordinatorUrl = HERE,
    interaction: Interaction = "transe",
    preset: Preset = "default",
    scorer: Scorer = None,
    scorer_key_file: ScorerKeyFile = None,
    clients: Annotated[int, typer.Option(help="Begin when so many have joined.", min=1)] = 3,
    fraction: Annotated[float, typer.Option(help="Part of the clients drawn a round.", min=0.0, max=1.0)] = 1.0,
    over_selection: Annotated[
        float | None, typer.Option(help="Further part drawn, so that a round need not wait for the slowest.", min=0.0)
    ] = None,
    quorum: Annotated[int, typer.Option(help="Updates that close a round at its deadline.", min=1)] = 1,
    deadline: Annotated[float, typer.Option(help="Seconds from a round's opening.", min=0.0)] = 600.0,
    attempts: Annotated[
        int | None, typer.Option(help="Deadlines in a row below the quorum, after which it pauses.", min=1)
    ] = None,
    aggregation: Annotated[StrategyName, typer.Option(help="How a round's updates become the next version.")] = "mean",
    trim: Annotated[float | None, typer.Option(help="Of `trimmed_mean`: the part cut off at either end.")] = None,
    clip: Annotated[float | None, typer.Option(help="Of `clipped_mean`: largest L2 norm of a row's change.")] = None,
    server_learning_rate: Annotated[float | None, typer.Option(help="Of `momentum`, `adam` and `yogi`.")] = None,
    share: ShareRows = "entities",
    wire_dtype: Annotated[
        WireDtype, typer.Option(help="Of numbers on their way; 16 bits halve the bytes.")
    ] = "float32",
    page_address: PageAddress = None,
    once: Annotated[bool, typer.Option("--once", help="Do nothing if the coordinator has a training.")] = False,
    seed: Seed = 0,
    dim: Dim = None,
    rounds: Rounds = None,
    local_epochs: LocalEpochs = None,
    learning_rate: LearningRate = None,
    loss: Loss = None,
    layer: ReadAfter = None,
    readout: Readout = None,
    texts: Texts = None,
    vectors: Vectors = None,
    adapter: Adapter = None,
    templates: Templates = None,
    evaluate_every: EvaluateEvery = None,
    patience: Patience = None,
    tie_tolerance: TieTolerance = None,
    as_json: AsJson = False,
) -> None:
    """Start a training at the coordinator, as its operator.

    What is not given comes from the interaction's preset.

    Example: `tripleherd start --interaction llama --scorer http://127.0.0.1:8000 --operator-token-file operator`
    """
    local = local_options(locals())
    strategy = {"strategy": aggregation, "trim": trim, "clip": clip, "learning_rate": server_learning_rate}
    changes: dict[str, object] = {
        "clients": clients,
        "fraction": fraction,
        "over_selection": over_selection,
        "quorum": quorum,
        "deadline_seconds": deadline,
        "attempts": attempts,
        "aggregation": {name: value for name, value in strategy.items() if value is not None},
        "share": share,
        "wire_dtype": wire_dtype,
        "tie_tolerance": tie_tolerance,
    }
    changes |= {"seed": seed, "dim": dim, "rounds": rounds, "evaluate_every": evaluate_every, "patience": patience}
    at, scores = OperatorAt(coordinator, operator_token_file), ScorerAt(scorer, scorer_key_file)
    operator.run_start(Output(as_json), at, interaction, scores, once, preset, changes, local, page_address)


@coordinator.command()
def export(
    out: Annotated[Path, typer.Option(help="Folder that gets model.safetensors, history.jsonl and audit.jsonl.")],
    operator_token_file: OperatorTokenFile,
    coordinator: CoordinatorUrl = HERE,
    training: Annotated[str | None, typer.Option(help="Id of the training; the latest's model unless given.")] = None,
    as_json: AsJson = False,
) -> None:
    """Write the best model, the history and the audit log.

    The model's rows go by opaque keys; history and log have the newest first. `history.jsonl` holds the trainings with
    their settings, then the rounds. With `--training` these are of that one alone; the audit log is always the
    coordinator's whole.

    Example: `tripleherd coordinator export --out export --operator-token-file operator`
    """
    operator.run_export(Output(as_json), OperatorAt(coordinator, operator_token_file), out, training)


@coordinator.command()
def page(
    operator_token_file: OperatorTokenFile,
    coordinator: CoordinatorUrl = HERE,
    page_address: PageAddress = None,
    as_json: AsJson = False,
) -> None:
    """Print a link with which the page can be watched.

    Whoever has it may watch for a week, and change nothing. To start, pause, stop and revoke there, open the page
    without it and enter the operators' token.

    Example: `tripleherd coordinator page --operator-token-file operator`
    """
    operator.run_page(Output(as_json), OperatorAt(coordinator, operator_token_file), page_address)


@coordinator.command()
def pause(operator_token_file: OperatorTokenFile, coordinator: CoordinatorUrl = HERE, as_json: AsJson = False) -> None:
    """Keep the running training as it is until it is resumed.

    Clients wait; what they have trained is still taken.

    Example: `tripleherd coordinator pause --operator-token-file operator`
    """
    operator.run_change(Output(as_json), OperatorAt(coordinator, operator_token_file), Coordinator.pause)


@coordinator.command()
def resume(operator_token_file: OperatorTokenFile, coordinator: CoordinatorUrl = HERE, as_json: AsJson = False) -> None:
    """Go on with a paused training, with a fresh deadline.

    Example: `tripleherd coordinator resume --operator-token-file operator`
    """
    operator.run_change(Output(as_json), OperatorAt(coordinator, operator_token_file), Coordinator.resume)


@coordinator.command()
def stop(operator_token_file: OperatorTokenFile, coordinator: CoordinatorUrl = HERE, as_json: AsJson = False) -> None:
    """End the running training with its best version so far.

    Clients conclude with that version.

    Example: `tripleherd coordinator stop --operator-token-file operator`
    """
    operator.run_change(Output(as_json), OperatorAt(coordinator, operator_token_file), Coordinator.stop)


@coordinator.command()
def status(operator_token_file: OperatorTokenFile, coordinator: CoordinatorUrl = HERE, as_json: AsJson = False) -> None:
    """Say where the latest training stands.

    Example: `tripleherd coordinator status --operator-token-file operator`
    """
    operator.run_status(Output(as_json), OperatorAt(coordinator, operator_token_file))


@coordinator.command()
def clients(
    operator_token_file: OperatorTokenFile, coordinator: CoordinatorUrl = HERE, as_json: AsJson = False
) -> None:
    """List members, and those that left or were removed.

    Example: `tripleherd coordinator clients --operator-token-file operator`
    """
    operator.run_clients(Output(as_json), OperatorAt(coordinator, operator_token_file))


@coordinator.command()
def revoke(
    client: Annotated[str, typer.Argument(help="Its id, or the first digits of it.")],
    operator_token_file: OperatorTokenFile,
    coordinator: CoordinatorUrl = HERE,
    as_json: AsJson = False,
) -> None:
    """Remove a client for good, with all of its keys. What it sent still counts.

    Example: `tripleherd coordinator revoke 3b1f00d5 --operator-token-file operator`
    """
    operator.run_revoke(Output(as_json), OperatorAt(coordinator, operator_token_file), client)
