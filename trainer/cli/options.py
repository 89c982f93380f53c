"""Options that several commands have."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, cast, get_args

import typer

from protocol.encoding import NamedLayer
from protocol.forms import AdapterName, TextsName, TrainedLayer, TrainedReadout
from protocol.presets import PresetName
from protocol.trainings import InteractionName, LocalSettings, LossName, Share
from trainer.sharing import TextsConsent

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
HERE = "http://127.0.0.1:8001"
AsJson = Annotated[
    bool, typer.Option("--json", help="Print the result as JSON, and what is for people on standard error.")
]
OperatorTokenFile = Annotated[
    Path, typer.Option(help="File with the operator's token.", envvar="TRAINER_OPERATOR_TOKEN_FILE")
]
Seed = Annotated[
    int, typer.Option(help="The same seed repeats a run; in a federation, with the same shared key and names.", min=0)
]
Rounds = Annotated[
    int | None,
    typer.Option(help="At most so many rounds; alone, so many times the local epochs.", min=1, envvar="TRAINER_ROUNDS"),
]
Consent = Annotated[
    TextsConsent,
    typer.Option(
        "--texts",
        help="The most that `llama` may tell your scorer in words of your entities and relations, if a training asks.",
        envvar="TRAINER_SEND_TEXTS",
    ),
]
Texts = Annotated[
    TextsName | None,
    typer.Option(
        help="Of `llama`: what slots say in words: names, names and descriptions, or numbers in their place.",
        envvar="TRAINER_TEXTS",
    ),
]
Vectors = Annotated[
    bool | None, typer.Option(help="Of `llama`: whether trained vectors stand in the slots, or words alone.")
]
Adapter = Annotated[
    AdapterName | None,
    typer.Option(
        help="Of `llama`: whose maps between rows and the model's vectors are: all clients', each's, or none."
    ),
]
Readout = Annotated[
    TrainedReadout | None,
    typer.Option(
        help="Of `llama`: one prompt a query (`state`), or one prompt a triple, whose answer is the score: slow."
    ),
]
Templates = Annotated[
    list[str] | None,
    typer.Option(
        "--template",
        help="Of `llama`: the scorer's template that asks for the tail, and again for the one that asks for the head; "
        "its `GET /info` lists them. A readout of triples takes one.",
    ),
]
LocalEpochs = Annotated[int | None, typer.Option(help="Passes over a client's queries a round.", min=1)]
LearningRate = Annotated[float | None, typer.Option(help="Of Adam.", min=0.0)]


def _layer(given: str) -> TrainedLayer:
    if given.isdecimal() and int(given):
        return int(given)
    if given in (*get_args(NamedLayer), "none"):
        return cast(NamedLayer, given)
    raise ValueError("give last, middle, none or a number from 1")


ReadAfter = Annotated[
    Any,
    typer.Option(
        help="Of `llama`: the layer of the model after which its state is read, `last`, `middle` or a number from 1; "
        "later ones are not computed. `none` is the control without a model.",
        envvar="TRAINER_LAYER",
        parser=_layer,
        metavar="LAYER",
    ),
]
Preset = Annotated[
    PresetName,
    typer.Option(
        help="Settings to begin with: ours, or those that FedE was published with (tails alone, 128 columns)."
    ),
]
Device = Annotated[
    str,
    typer.Option(help="Where the model's tensors are: `cpu`, or a GPU as `cuda` or `cuda:1`.", envvar="TRAINER_DEVICE"),
]
Loss = Annotated[LossName | None, typer.Option(help="What is minimised.")]
Dim = Annotated[int | None, typer.Option(help="Columns of an entity's row.", min=1)]
EvaluateEvery = Annotated[int | None, typer.Option(help="Rounds between two evaluations.", min=1)]
Patience = Annotated[int | None, typer.Option(help="Evaluations without a better MRR that end the training.", min=1)]
TieTolerance = Annotated[
    float | None,
    typer.Option(
        help="Candidates are level where their scores differ by no more than this part of the query's largest absolute "
        "one: 0.008 for scores of a model in bfloat16.",
        min=0.0,
    ),
]
ShareRows = Annotated[
    Share,
    typer.Option(help="Rows that the coordinator sees: of entities (FedE), of relations (FedR), or of both."),
]
ClientName = Annotated[
    str | None, typer.Option(help="What people call you; the data folder's by default.", envvar="TRAINER_NAME")
]
HomeFolder = Annotated[
    Path | None,
    typer.Option(help="Your key, state and models; `.tripleherd/NAME` by default.", envvar="TRAINER_HOME"),
]
DataOfHome = Annotated[
    str | None, typer.Option(help="Your graph, whose name the home has unless given.", envvar="TRAINER_DATA")
]


def local_options(given: Mapping[str, Any]) -> dict[str, Any]:
    """Those of a command's arguments that are settings of local training; options go by the names of the settings."""
    return {name: value for name, value in given.items() if name in LocalSettings.model_fields}
