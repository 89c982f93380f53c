"""`demo`, `train`, `evaluate`, `fuse` and `predict`."""

from pathlib import Path
from typing import Annotated, Any, get_args

import typer

from protocol.trainings import InteractionName
from trainer.cli.options import (
    Adapter,
    AsJson,
    Device,
    Dim,
    EvaluateEvery,
    Interaction,
    LearningRate,
    LocalEpochs,
    Loss,
    Patience,
    Preset,
    ReadAfter,
    Readout,
    Rounds,
    Scorer,
    ScorerKeyFile,
    Seed,
    Templates,
    Texts,
    TieTolerance,
    Vectors,
    local_options,
)
from trainer.commands import models as commands
from trainer.commands.fuse import run_fuse
from trainer.commands.predict import Asked, run_predict
from trainer.commands.rerank import Reranking, run_rerank
from trainer.inputs import ScorerAt
from trainer.judge import JudgeReadout, TextsName
from trainer.output import Output

ModelFolder = Annotated[Path, typer.Argument(help="Folder of a trained model, as `HOME/CLIENT/TRAINING/fusion`.")]

Rerank = Annotated[
    JudgeReadout | None,
    typer.Option(help="Let the scorer, which is told names, put each query's best candidates in order as well."),
]
Shortlist = Annotated[int | None, typer.Option(help="Candidates a query that the scorer gets; 20 unless given.", min=1)]
Told = Annotated[
    TextsName | None, typer.Option(help="What the scorer is told of each entity and relation; names unless given.")
]
Limit = Annotated[
    int | None, typer.Option(help="At most so many triples of validation and of test, drawn at random.", min=1)
]
Kept = Annotated[
    Path | None, typer.Option(help="Folder that keeps the scorer's scores; .tripleherd/scores unless given.")
]


def demo(
    out: Annotated[
        Path | None, typer.Option(help="Keep data, logs, models and results.json here; must be new or empty.")
    ] = None,
    dataset: Annotated[str, typer.Option(help="A folder, one file, or a PyKEEN data set.")] = "umls",
    clients: Annotated[int, typer.Option(help="Clients that the relations are dealt to.", min=1)] = 3,
    interaction: Annotated[
        list[str] | None, typer.Option(help="transe and llama unless given; repeat for several.")
    ] = None,
    seed: Seed = 0,
    rounds: Rounds = None,
    as_json: AsJson = False,
) -> None:
    """Run everything on this machine, on a small real graph.

    A table comes at the end. Starts a scorer, a coordinator and the clients as processes on free loopback ports, and
    stops them all.

    Example: `tripleherd demo --out results/demo`
    """
    commands.run_demo(Output(as_json), out, dataset, clients, _interactions(interaction), seed, rounds)


def train(
    data: Annotated[list[str], typer.Argument(help="Folders with train, valid and test.tsv; several are pooled.")],
    out: Annotated[Path, typer.Option(help="Where the model and results.json are written.")],
    interaction: Interaction = "transe",
    preset: Preset = "default",
    scorer: Scorer = None,
    scorer_key_file: ScorerKeyFile = None,
    device: Device = "cpu",
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
    """Train without a coordinator: one graph, or several pooled.

    The first is the mode isolation, the second collection.

    Example: `tripleherd train data/umls/client_* --interaction complex --out results/pooled`
    """
    local = local_options(locals())
    changes: dict[str, object] = {"seed": seed, "dim": dim, "rounds": rounds, "tie_tolerance": tie_tolerance}
    changes |= {"evaluate_every": evaluate_every, "patience": patience}
    at = ScorerAt(scorer, scorer_key_file)
    commands.run_train(Output(as_json), data, out, interaction, at, device, preset, changes, local)


def evaluate(
    model: ModelFolder,
    data: Annotated[str, typer.Option(help="Folder with train, valid and test.tsv.")],
    test: Annotated[bool, typer.Option("--test/--valid", help="Which triples are ranked.")] = True,
    scorer: Scorer = None,
    scorer_key_file: ScorerKeyFile = None,
    device: Device = "cpu",
    rerank: Rerank = None,
    shortlist: Shortlist = None,
    texts: Told = None,
    limit: Limit = None,
    kept: Kept = None,
    as_json: AsJson = False,
) -> None:
    """Rank a folder's test triples with a trained model.

    Ranks are of both sides, filtered and realistic.

    Example: `tripleherd evaluate .tripleherd/client_0/CLIENT/TRAINING/fusion --data data/umls/client_0`

    With the scorer's order of the ten best as well, on 200 triples:

    `tripleherd evaluate results/transe --data data/umls --rerank verdict --shortlist 10 --limit 200 --scorer URL`
    """
    at = ScorerAt(scorer, scorer_key_file)
    given: dict[str, Any] = {"size": shortlist, "texts": texts, "limit": limit, "kept": kept}
    how = {name: value for name, value in given.items() if value is not None}
    if rerank is None and how:
        raise typer.BadParameter("--shortlist, --texts, --limit and --kept go with --rerank")
    if rerank is None:
        commands.run_evaluate(Output(as_json), model, data, "test" if test else "valid", at, device)
    elif test:
        run_rerank(Output(as_json), model, data, at, device, Reranking(rerank, **how))
    else:
        raise typer.BadParameter(
            "--rerank learns on validation triples and measures on test triples; leave out --valid"
        )


def fuse(
    first: ModelFolder,
    second: ModelFolder,
    data: Annotated[str, typer.Option(help="The graph of both models; its validation triples fit the weights.")],
    out: Annotated[Path, typer.Option(help="Where the fused model is written; the two stay where they are.")],
    scorer: Scorer = None,
    scorer_key_file: ScorerKeyFile = None,
    device: Device = "cpu",
    as_json: AsJson = False,
) -> None:
    """Combine two trained models of one graph.

    A KGE and a LLaMA for example; what part each has in a score is learned on validation triples.

    Example: `tripleherd fuse results/transe results/llama --data data/umls/client_0 --out results/both --scorer URL`
    """
    run_fuse(Output(as_json), (first, second), data, out, ScorerAt(scorer, scorer_key_file), device)


def predict(
    model: ModelFolder,
    relation: Annotated[str, typer.Option(help="The relation's id, or its name where --data has names.")],
    head: Annotated[str | None, typer.Option(help="Given to ask for tails; likewise its id or name.")] = None,
    tail: Annotated[str | None, typer.Option(help="Given to ask for heads; likewise its id or name.")] = None,
    top: Annotated[int, typer.Option(help="How many to show.", min=1)] = 10,
    data: Annotated[
        str | None,
        typer.Option(help="Mark what this folder's triples hold; its entities.tsv and relations.tsv give names."),
    ] = None,
    new: Annotated[
        bool, typer.Option("--new", help="Leave out what --data holds: what is left is new to you.")
    ] = False,
    scorer: Scorer = None,
    scorer_key_file: ScorerKeyFile = None,
    device: Device = "cpu",
    as_json: AsJson = False,
) -> None:
    """Show the most plausible tails or heads of a query.

    These are the answers to (head, relation, ?), or to (?, relation, tail).

    Example: `tripleherd predict .tripleherd/client_0/CLIENT/TRAINING/fusion --head virus --relation causes --top 5`
    """
    asked = Asked(head, relation, tail)
    run_predict(Output(as_json), model, asked, top, data, new, ScorerAt(scorer, scorer_key_file), device)


def _interactions(given: list[str] | None) -> list[InteractionName]:
    known = {str(name): name for name in get_args(InteractionName)}
    if unknown := [name for name in given or [] if name not in known]:
        raise typer.BadParameter(f"{unknown[0]!r} is not one of {', '.join(known)}", param_hint="--interaction")
    return [known[name] for name in given or ["transe", "llama"]]
