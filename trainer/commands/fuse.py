"""Fusing any two saved models of one graph, as a federation does with isolation and federation when it ends."""

from contextlib import ExitStack
from pathlib import Path

from rich.table import Table
from rich.text import Text

from protocol.messages import HEAD, TAIL
from protocol.rounds import Metrics
from trainer.collection import restricted
from trainer.fusion import Fusion, fit
from trainer.graph import Graph
from trainer.inputs import ScorerAt, UsageError, graph_of, progress, saved_model
from trainer.output import Output
from trainer.ranking import Scorer, known_answers, rank
from trainer.reports import Report
from trainer.results import COLUMNS, ties
from trainer.saved import SavedModel, save_fusion


def run_fuse(console: Output, folders: tuple[Path, Path], data: str, out: Path, scorer: ScorerAt, device: str) -> None:
    """Learn two models' shares on validation triples, save the fused model, and measure all three on test triples."""
    if (out / "model.json").exists():
        raise UsageError(f"{out} holds a model already; give --out a new folder")
    rows: list[tuple[str, SavedModel, Metrics]] = []
    with progress(console) as (say, now):
        graph = graph_of(data, say)
        if not len(graph.triples["valid"]):
            say("there are no validation triples to learn from: both models weigh the same")
        fusion = _learn(graph, folders, scorer, device, say, now)
        save_fusion(out, graph, fusion, folders)
        for folder in (*folders, out) if len(graph.triples["test"]) else ():
            now(f"ranking {len(graph.triples['test'])} test triples with {folder}")
            with saved_model(folder, scorer, say, now, device) as model:
                rows.append((folder.resolve().name, model, _measured(graph, folder, model)))
    if not rows:
        console.result({"models": []}, "there are no test triples to rank")
        return
    tail, head = fusion.weights[[TAIL, HEAD], 1]
    caption = f"filtered, realistic ranks among {len(graph.entities)} entities\n"
    caption += f"share of {rows[1][0]}: {tail:.2f} of tails, {head:.2f} of heads" + ties(m for _, _, m in rows)
    title = Text(f"{Path(data).resolve().name}, test, both sides")
    columns = ("model", "interaction", "mode", *COLUMNS.values())
    shown = Table(*columns, title=title, caption=Text(caption), caption_justify="left")
    for name, model, metrics in rows:
        values = metrics.model_dump()
        shown.add_row(Text(name), model.interaction, model.card.mode, *(f"{values[c]:.3f}" for c in COLUMNS))
    measured = [
        {"model": name, "interaction": model.interaction, "mode": model.card.mode, "metrics": metrics.model_dump()}
        for name, model, metrics in rows
    ]
    shares = {"model": rows[1][0], "tail": float(tail), "head": float(head)}
    console.result({"models": measured, "share": shares}, shown)


def _measured(graph: Graph, folder: Path, model: SavedModel) -> Metrics:
    """Of test triples, both sides."""
    scores = _over(graph, folder, model)
    return rank(graph.triples["test"], known_answers(graph, "test"), scores, model.tie_tolerance).metrics()["both"]


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
