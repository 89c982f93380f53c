"""`evaluate --rerank`: a saved model's shortlists, put in order by the scorer from what it reads in words."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from protocol.messages import HEAD, TAIL
from protocol.rounds import Metrics, SideName
from trainer.clients.service import Service
from trainer.collection import restricted
from trainer.dataset import texts_of
from trainer.graph import DataError, Graph
from trainer.inputs import ScorerAt, UsageError, graph_of, progress, saved_model, secret_in
from trainer.judge import Judge, JudgeReadout, TextsName, Words
from trainer.output import Output
from trainer.reranking import Reranked, rerank
from trainer.results import COLUMNS, ties
from trainer.saved import SavedModel

RANKINGS = ("alone", "reranked", "mixture")
SIDES: tuple[SideName, ...] = ("both", "head", "tail")


@dataclass(frozen=True)
class Reranking:
    """How shortlists are put in order.

    Attributes:
        readout: How the scorer is read.
        size: Candidates on a list.
        texts: What the scorer is told.
        limit: The most triples of validation and of test; None takes all.
        kept: Folder that keeps scores.
    """

    readout: JudgeReadout
    size: int = 20
    texts: TextsName = "names"
    limit: int | None = None
    kept: Path = Path(".tripleherd/scores")


def run_rerank(
    console: Output,
    folder: Path,
    data: str,
    scorer: ScorerAt,
    device: str,
    how: Reranking,
) -> None:
    """Rank test triples by the model, by the scorer on its shortlists and by both; print the metrics."""
    if scorer.url is None:
        raise UsageError("--rerank needs a scorer: give its address as --scorer")
    key = secret_in(scorer.key_file) if scorer.key_file else None
    with progress(console) as (say, now), saved_model(folder, scorer, say, now, device) as model:
        graph = graph_of(data, say)
        if not len(graph.triples["test"]):
            raise DataError(f"{data}: there are no test triples to rank")
        scores = restricted(model.scorer, model.card.entities, model.card.relations, graph)
        texts = texts_of(data)
        say(texts.known(graph.entities, graph.relations))
        words = Words.of(texts, graph, how.texts)
        with Service("scorer", scorer.url, key, say) as service:
            judge = Judge(service, how.readout, words, how.kept, now)
            now("ranking all candidates")
            found = rerank(graph, scores, judge.scores, how.size, model.tie_tolerance, how.limit)
    metrics = {name: getattr(found, name).metrics() for name in RANKINGS}
    shown = _table(how, found, metrics)
    title = f"{model.interaction}, {model.card.mode}, test; the best {how.size} re-ranked by {judge.info.model}"
    caption = _caption(graph, how, judge, found) + ties(metrics[name]["both"] for name in RANKINGS)
    shown.title, shown.caption = Text(title), Text(caption)
    console.result(_record(model, graph, how, judge, found, metrics), shown)


def _table(how: Reranking, found: Reranked, metrics: dict[str, dict[SideName, Metrics]]) -> Table:
    shown = Table("side", "ranking", f"recall@{how.size}", *COLUMNS.values(), caption_justify="left")
    for side in SIDES:
        for name in RANKINGS:
            values = metrics[name][side].model_dump()
            cells = [found.recall[side], *(values[column] for column in COLUMNS)]
            shown.add_row(side, name, *(f"{cell:.3f}" for cell in cells), end_section=name == RANKINGS[-1])
    return shown


def _caption(graph: Graph, how: Reranking, judge: Judge, found: Reranked) -> str:
    ranked, there = len(found.alone), len(graph.triples["test"])
    sample = f"{ranked} of {there} test triples, drawn at random" if ranked < there else f"all {there} test triples"
    tail, head = found.fusion.weights[[TAIL, HEAD], 1]
    fitted = (
        f"learned on {found.fitted} validation triples" if found.fitted else "without validation triples to learn on"
    )
    cost = judge.cost
    return (
        f"filtered, realistic ranks among {len(graph.entities)} entities; {sample}\n"
        f"recall@{how.size}: part of the answers on their shortlist; the others keep their rank\n"
        f"mixture: the scorer's share is {tail:.2f} of tails, {head:.2f} of heads, {fitted}\n"
        f"{how.readout} of {judge.info.model} ({judge.info.revision[:12]}), told {how.texts}: "
        f"{cost.scored} triples scored ({cost.tokens} tokens, {cost.shared_tokens} of them shared), "
        f"{cost.kept} known from before" + (f"; {cost.unread} could not be read and stand last" if cost.unread else "")
    )


def _record(
    model: SavedModel,
    graph: Graph,
    how: Reranking,
    judge: Judge,
    found: Reranked,
    metrics: dict[str, dict[SideName, Metrics]],
) -> dict[str, Any]:
    """What the table shows, and what made it."""
    tail, head = found.fusion.weights[[TAIL, HEAD], 1].tolist()
    scorer = judge.info.model_dump(include={"model", "revision", "dtype", "quantization"})
    return {
        "interaction": model.interaction,
        "mode": model.card.mode,
        "split": "test",
        "ranks": "filtered, realistic",
        "tie_tolerance": model.tie_tolerance,
        "triples": len(found.alone),
        "of_triples": len(graph.triples["test"]),
        "candidates": len(graph.entities),
        "left_out": graph.left_out["test"],
        "readout": how.readout,
        "texts": how.texts,
        "scorer": scorer | {"template_hashes": judge.template_hashes},
        "shortlist": how.size,
        "recall": found.recall,
        "shares": {"tail": tail, "head": head, "valid_triples": found.fitted},
        "cost": vars(judge.cost),
        "rankings": {
            name: {side: values.model_dump() for side, values in sides.items()} for name, sides in metrics.items()
        },
    }
