"""Fusing any two saved models of one graph, as a federation does with isolation and federation when it ends."""

from contextlib import ExitStack
from pathlib import Path

from rich.console import Console
from rich.table import Table

from protocol.messages import HEAD, TAIL
from protocol.rounds import Metrics
from trainer.collection import restricted
from trainer.fusion import Fusion, fit
from trainer.graph import Graph
from trainer.inputs import ScorerAt, UsageError, graph_of, progress, saved_model
from trainer.ranking import Scorer, known_answers, rank
from trainer.reports import Report
from trainer.results import COLUMNS, ties
from trainer.saved import SavedModel, save_fusion


def run_fuse(console: Console, folders: tuple[Path, Path], data: str, out: Path, scorer: ScorerAt, device: str) -> None:
    """Learn two models' shares on validation triples, save the fused model, and measure all three on test triples."""
    if (out / "model.json").exists():
        raise UsageError(f"{out} holds a model already; give --out a new folder")
    rows: list[tuple[list[str], Metrics]] = []
    with progress(console) as (say, now):
        graph = graph_of(data, say)
        if not len(graph.triples["valid"]):
            say("there are no validation triples to learn from: both models weigh the same")
        fusion = _learn(graph, folders, scorer, device, say, now)
        save_fusion(out, graph, fusion, folders)
        for folder in (*folders, out) if len(graph.triples["test"]) else ():
            now(f"ranking {len(graph.triples['test'])} test triples with {folder}")
            with saved_model(folder, scorer, say, now, device) as model:
                ranks = rank(
                    graph.triples["test"],
                    known_answers(graph, "test"),
                    _over(graph, folder, model),
                    model.tie_tolerance,
                )
                rows.append(([folder.resolve().name, model.interaction, model.card.mode], ranks.metrics()["both"]))
    if not rows:
        console.print("there are no test triples to rank")
        return
    shown = Table(
        "model", "interaction", "mode", *COLUMNS.values(), title=f"{Path(data).resolve().name}, test, both sides"
    )
    shares = f"share of {rows[1][0][0]}: {fusion.weights[TAIL, 1]:.2f} of tails, {fusion.weights[HEAD, 1]:.2f} of heads"
    shown.caption = f"filtered, realistic ranks among {len(graph.entities)} entities\n{shares}"
    shown.caption += ties(metrics for _, metrics in rows)
    for names, metrics in rows:
        shown.add_row(*names, *(f"{metrics.model_dump()[column]:.3f}" for column in COLUMNS))
    console.print(shown)


def _learn(graph: Graph, folders: tuple[Path, Path], scorer: ScorerAt, device: str, say: Report, now: Report) -> Fusion:
    with ExitStack() as stack:
        first, second = (stack.enter_context(saved_model(folder, scorer, say, now, device)) for folder in folders)
        scorers = _over(graph, folders[0], first), _over(graph, folders[1], second)
        now(f"learning the shares on {len(graph.triples['valid'])} validation triples")
        return fit(graph, *scorers, max(first.tie_tolerance, second.tie_tolerance))


def _over(graph: Graph, folder: Path, model: SavedModel) -> Scorer:
    """The model's scores in the graph's numbering.

    Raises:
        UsageError: It is a model of another graph.
    """
    for kind, own, wanted in (
        ("entities", model.card.entities, graph.entities),
        ("relations", model.card.relations, graph.relations),
    ):
        if differing := sorted(set(own) ^ set(wanted)):
            raise UsageError(
                f"{folder}: {len(differing)} {kind} are known to this model or to the data alone, {differing[0]!r} for "
                "one; fuse two models of one graph, and give that graph as --data"
            )
    return restricted(model.scorer, model.card.entities, model.card.relations, graph)
