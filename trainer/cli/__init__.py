"""The command line: `tripleherd COMMAND --help` shows each command with an example.

Commands read arguments, call plain functions, and print. An error that a user can mend is one line and exit status 2.
"""

import sys
from pathlib import Path
from typing import Annotated, NoReturn, get_args

import typer
from pydantic import ValidationError
from rich.console import Console

from protocol.federation import InteractionName, LossName
from protocol.problems import InvalidRequest, ProblemError
from trainer import commands
from trainer.federation import NotInvited, TrainingStopped
from trainer.graph import DataError
from trainer.home import HomeUnusable
from trainer.inputs import ScorerAt, UsageError
from trainer.processes import ProcessFailed, stop_on_sigterm
from trainer.ranking import ScoresNotFinite
from trainer.saved import ModelMissing
from trainer.scorer import WrongScorer
from trainer.service import ServiceUnreachable
from trainer.training import TrainingDiverged

app = typer.Typer(
    help="Federated knowledge graph embeddings, scored by a frozen LLaMA over REST.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    add_completion=False,
)
console = Console()

EXPECTED = (
    DataError,
    ModelMissing,
    HomeUnusable,
    NotInvited,
    OSError,
    ProblemError,
    ProcessFailed,
    ScoresNotFinite,
    ServiceUnreachable,
    TrainingDiverged,
    TrainingStopped,
    WrongScorer,
    UsageError,
)

Interaction = Annotated[
    InteractionName, typer.Option(help="The function that scores a triple.", envvar="TRAINER_INTERACTION")
]
Scorer = Annotated[
    str | None,
    typer.Option(
        help="Address of the scorer; needed by `llama`. It sees the vectors and which of them stand together, so "
        "run your own where you trust nobody's.",
        envvar="TRAINER_SCORER",
    ),
]
ScorerKeyFile = Annotated[
    Path | None,
    typer.Option(help="File with the scorer's API key, where it asks for one.", envvar="TRAINER_SCORER_KEY_FILE"),
]
CoordinatorUrl = Annotated[str, typer.Option(help="Address of the coordinator.", envvar="TRAINER_COORDINATOR")]
Seed = Annotated[int, typer.Option(help="The same seed repeats a run.", min=0)]
Rounds = Annotated[
    int | None,
    typer.Option(help="At most so many rounds; alone, so many times the local epochs.", min=1, envvar="TRAINER_ROUNDS"),
]
Names = Annotated[
    bool,
    typer.Option(
        "--names/--no-names",
        help="Send the scorer the names of entities and relations beside their vectors. Off: it sees vectors alone.",
        envvar="TRAINER_NAMES",
    ),
]
LocalEpochs = Annotated[int | None, typer.Option(help="Passes over a client's queries a round.", min=1)]
LearningRate = Annotated[float | None, typer.Option(help="Of Adam.", min=0.0)]
Loss = Annotated[LossName | None, typer.Option(help="What is minimised.")]
Dim = Annotated[int | None, typer.Option(help="Columns of an entity's row.", min=1)]
EvaluateEvery = Annotated[int | None, typer.Option(help="Rounds between two evaluations.", min=1)]
Patience = Annotated[int | None, typer.Option(help="Evaluations without a better MRR that end the training.", min=1)]
ModelFolder = Annotated[Path, typer.Argument(help="Folder of a trained model, as `HOME/CLIENT/TRAINING/fusion`.")]


@app.command()
def demo(
    out: Annotated[
        Path | None, typer.Option(help="Keep data, logs, models and results.json here; must be new or empty.")
    ] = None,
    dataset: Annotated[str, typer.Option(help="A folder of TSV files, or a PyKEEN data set.")] = "umls",
    clients: Annotated[int, typer.Option(help="Clients that the relations are dealt to.", min=1)] = 3,
    interaction: Annotated[
        list[str] | None, typer.Option(help="transe and llama unless given; repeat for several.")
    ] = None,
    seed: Seed = 0,
    rounds: Rounds = None,
) -> None:
    """Everything on this machine on a small real graph, with a table at the end.

    Starts a scorer, a coordinator and the clients as processes on free loopback ports, and stops them all.

    Example: `tripleherd demo --out results/demo`
    """
    commands.run_demo(console, out, dataset, clients, _interactions(interaction), seed, rounds)


@app.command()
def split(
    dataset: Annotated[str, typer.Argument(help="A folder of TSV files, or a PyKEEN data set such as `umls`.")],
    out: Annotated[Path, typer.Option(help="Written: client_0, client_1, … with train, valid and test.tsv.")],
    clients: Annotated[int, typer.Option(help="How many to deal to.", min=1)] = 3,
    seed: Seed = 0,
) -> None:
    """Deal a graph's relations to clients at random, and split each client's triples 80/10/10.

    Example: `tripleherd split umls --clients 3 --out data/umls`
    """
    commands.run_split(console, dataset, out, clients, seed)


@app.command()
def start(
    operator_token_file: Annotated[
        Path, typer.Option(help="File with the operator's token.", envvar="TRAINER_OPERATOR_TOKEN_FILE")
    ],
    coordinator: CoordinatorUrl = "http://127.0.0.1:8001",
    interaction: Interaction = "transe",
    scorer: Scorer = None,
    scorer_key_file: ScorerKeyFile = None,
    clients: Annotated[int, typer.Option(help="Begin when so many have joined.", min=1)] = 3,
    fraction: Annotated[float, typer.Option(help="Part of the clients drawn a round.", min=0.0, max=1.0)] = 1.0,
    quorum: Annotated[int, typer.Option(help="Updates that close a round at its deadline.", min=1)] = 1,
    deadline: Annotated[float, typer.Option(help="Seconds from a round's opening.", min=0.0)] = 600.0,
    once: Annotated[bool, typer.Option("--once", help="Do nothing if the coordinator has a training.")] = False,
    seed: Seed = 0,
    dim: Dim = None,
    rounds: Rounds = None,
    local_epochs: LocalEpochs = None,
    learning_rate: LearningRate = None,
    loss: Loss = None,
    evaluate_every: EvaluateEvery = None,
    patience: Patience = None,
) -> None:
    """Start a training at the coordinator, as its operator. What is not given comes from the interaction's preset.

    Example: `tripleherd start --interaction llama --scorer http://127.0.0.1:8000 --operator-token-file operator`
    """
    local = {"local_epochs": local_epochs, "learning_rate": learning_rate, "loss": loss}
    changes: dict[str, float | None] = {
        "clients": clients,
        "fraction": fraction,
        "quorum": quorum,
        "deadline_seconds": deadline,
    }
    changes |= {"seed": seed, "dim": dim, "rounds": rounds, "evaluate_every": evaluate_every, "patience": patience}
    at = ScorerAt(scorer, scorer_key_file)
    commands.run_start(console, operator_token_file, coordinator, interaction, at, once, changes, local)


@app.command()
def join(
    data: Annotated[
        str,
        typer.Option(
            help="Your graph: a folder with train, valid and test.tsv, or a PyKEEN data set.", envvar="TRAINER_DATA"
        ),
    ],
    shared_key_file: Annotated[
        Path,
        typer.Option(
            help="File with the key that all clients share and the coordinator must not have.",
            envvar="TRAINER_SHARED_KEY_FILE",
        ),
    ],
    coordinator: CoordinatorUrl = "http://127.0.0.1:8001",
    invitation_file: Annotated[
        Path | None,
        typer.Option(help="File with the invitation token; needed once.", envvar="TRAINER_INVITATION_FILE"),
    ] = None,
    scorer: Scorer = None,
    scorer_key_file: ScorerKeyFile = None,
    name: Annotated[
        str | None, typer.Option(help="What people call you; the data folder's by default.", envvar="TRAINER_NAME")
    ] = None,
    home: Annotated[
        Path | None,
        typer.Option(help="Your state and models; `.tripleherd/NAME` by default.", envvar="TRAINER_HOME"),
    ] = None,
    names: Names = False,
) -> None:
    """Take part in the coordinator's training with your own graph, fuse, and print your rows.

    **Who sees what.** The *coordinator* sees opaque entity keys (HMACs under a key it does not have), your trained
    entity rows, counts and metrics: no triple, no name, no relation. The *scorer* (with `llama`) sees the vectors and
    the pairs that they stand in; names only with `--names`. *Other clients* see averaged rows of entities they hold.

    Kill it and start it again at any time: it goes on where it was.

    Example: `tripleherd join --data data/umls/client_0 --shared-key-file key --invitation-file invitation`
    """
    at = ScorerAt(scorer, scorer_key_file)
    commands.run_join(console, data, shared_key_file, coordinator, invitation_file, at, name, home, names)


@app.command()
def train(
    data: Annotated[list[str], typer.Argument(help="Folders with train, valid and test.tsv; several are pooled.")],
    out: Annotated[Path, typer.Option(help="Where the model and results.json are written.")],
    interaction: Interaction = "transe",
    scorer: Scorer = None,
    scorer_key_file: ScorerKeyFile = None,
    seed: Seed = 0,
    dim: Dim = None,
    rounds: Rounds = None,
    local_epochs: LocalEpochs = None,
    learning_rate: LearningRate = None,
    loss: Loss = None,
    evaluate_every: EvaluateEvery = None,
    patience: Patience = None,
    names: Names = False,
) -> None:
    """Train without a coordinator: one folder alone (isolation), or several pooled (collection).

    Example: `tripleherd train data/umls/client_* --interaction complex --out results/pooled`
    """
    local = {"local_epochs": local_epochs, "learning_rate": learning_rate, "loss": loss}
    changes = {"seed": seed, "dim": dim, "rounds": rounds, "evaluate_every": evaluate_every, "patience": patience}
    commands.run_train(console, data, out, interaction, ScorerAt(scorer, scorer_key_file), names, changes, local)


@app.command()
def evaluate(
    model: ModelFolder,
    data: Annotated[str, typer.Option(help="Folder with train, valid and test.tsv.")],
    test: Annotated[bool, typer.Option("--test/--valid", help="Which triples are ranked.")] = True,
    scorer: Scorer = None,
    scorer_key_file: ScorerKeyFile = None,
) -> None:
    """Rank a folder's test triples with a trained model: both sides, filtered, realistic.

    Example: `tripleherd evaluate .tripleherd/client_0/CLIENT/TRAINING/fusion --data data/umls/client_0`
    """
    commands.run_evaluate(console, model, data, "test" if test else "valid", ScorerAt(scorer, scorer_key_file))


@app.command()
def predict(
    model: ModelFolder,
    relation: Annotated[str, typer.Option(help="The relation's id.")],
    head: Annotated[str | None, typer.Option(help="Given to ask for tails.")] = None,
    tail: Annotated[str | None, typer.Option(help="Given to ask for heads.")] = None,
    top: Annotated[int, typer.Option(help="How many to show.", min=1)] = 10,
    data: Annotated[str | None, typer.Option(help="Mark answers that this folder's triples hold.")] = None,
    scorer: Scorer = None,
    scorer_key_file: ScorerKeyFile = None,
) -> None:
    """The most plausible tails of (head, relation, ?), or heads of (?, relation, tail).

    Example: `tripleherd predict .tripleherd/client_0/CLIENT/TRAINING/fusion --head virus --relation causes --top 5`
    """
    commands.run_predict(console, model, head, relation, tail, top, data, ScorerAt(scorer, scorer_key_file))


def _interactions(given: list[str] | None) -> list[InteractionName]:
    known = {str(name): name for name in get_args(InteractionName)}
    if unknown := [name for name in given or [] if name not in known]:
        raise typer.BadParameter(f"{unknown[0]!r} is not one of {', '.join(known)}", param_hint="--interaction")
    return [known[name] for name in given or ["transe", "llama"]]


def main() -> NoReturn:
    """Run a command; expected errors become one line and exit status 2."""
    stop_on_sigterm()
    try:
        app(standalone_mode=True)
    except EXPECTED as error:
        _fail(error)
    except ValidationError as error:
        _fail(InvalidRequest.from_validation(error))
    sys.exit(0)


def _fail(error: Exception) -> NoReturn:
    Console(stderr=True).print(f"error: {error}", style="red", soft_wrap=True, highlight=False, markup=False)
    sys.exit(2)
