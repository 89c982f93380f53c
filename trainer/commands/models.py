"""Training and using models without a coordinator; and the demo."""

import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from rich.table import Table

from protocol.presets import PresetName
from protocol.rounds import Mode, Split
from protocol.trainings import InteractionName
from trainer.alone import train_and_measure
from trainer.collection import pool, restricted
from trainer.demo import Demo
from trainer.devices import usable_device
from trainer.experiments.extras import needed
from trainer.graph import DataError
from trainer.inputs import (
    ScorerAt,
    UsageError,
    graph_of,
    progress,
    saved_model,
    scorer_for,
    wanted_training,
)
from trainer.interactions import interaction_of
from trainer.output import Output
from trainer.prompting import prompting_of
from trainer.ranking import known_answers, rank
from trainer.results import ALL_COLUMNS, rows, table, ties
from trainer.seeds import seed_of


def run_demo(
    console: Output,
    out: Path | None,
    dataset: str,
    clients: int,
    interactions: list[InteractionName],
    seed: int,
    rounds: int | None,
) -> None:
    """Run the demo and print its table."""
    for module in ("sqlalchemy", "transformers"):  # of the coordinator and of the scorer, which it starts
        needed(module, "all")
    if out is not None and out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"{out} exists and is not an empty folder; give --out a new one")
    started = time.monotonic()
    with ExitStack() as stack:
        folder = out or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tripleherd-")))
        try:
            results = Demo(dataset, clients, interactions, seed, folder, rounds).run(console)
        except KeyboardInterrupt:
            console.print("stopped, and every process with it")
            raise
    shown = table(results, f"{dataset}, {clients} clients, both sides, weighted by test triples")
    console.result(rows(results), shown)
    console.print(f"{time.monotonic() - started:.0f} s" + (f"; everything is in {out}" if out else ""))


def run_train(
    console: Output,
    sources: list[str],
    out: Path,
    interaction: InteractionName,
    scorer: ScorerAt,
    device: str,
    preset: PresetName,
    changes: dict[str, Any],
    local: dict[str, Any],
) -> None:
    """Train one model on one or several graphs pooled, and measure it on each."""
    mode: Mode = "collection" if len(sources) > 1 else "isolation"
    asked = wanted_training(interaction, changes, local, preset)
    with ExitStack() as stack:
        say, now = stack.enter_context(progress(console))
        graphs = {Path(source).resolve().name: graph_of(source, say) for source in sources}
        if len(graphs) < len(sources):
            raise UsageError("two of the folders have the same name; results are listed by it")
        pooled = pool(list(graphs.values()))
        frozen = stack.enter_context(scorer_for(interaction, scorer, say))
        settings = asked.settings(frozen)
        prompting = prompting_of(settings, pooled, sources, out, say, now)
        model = interaction_of(interaction, frozen, settings.local, usable_device(device), prompting)
        seed = seed_of(settings.seed, mode)
        results = train_and_measure(pooled, graphs, mode, settings, model, seed, out, say, now)
    console.result(rows(results), table(results, f"{mode}, both sides, weighted by test triples"))


def run_evaluate(console: Output, folder: Path, data: str, split: Split, scorer: ScorerAt, device: str) -> None:
    """Rank a split with a saved model, and print the metrics of each side."""
    with progress(console) as (say, now), saved_model(folder, scorer, say, now, device) as model:
        graph = graph_of(data, say)
        if not len(graph.triples[split]):
            raise DataError(f"{data}: there are no {split} triples to rank")
        now(f"ranking {len(graph.triples[split])} {split} triples")
        scores = restricted(model.scorer, model.card.entities, model.card.relations, graph)
        tolerance = model.tie_tolerance
        ranks = rank(graph.triples[split], known_answers(graph, split), scores, tolerance)
    metrics, interaction, mode = ranks.metrics(), model.interaction, model.card.mode
    what = {"interaction": interaction, "mode": mode, "split": split, "ranks": "filtered, realistic"}
    counts = {"triples": len(ranks), "candidates": len(graph.entities), "left_out": graph.left_out[split]}
    sides = {side: values.model_dump() for side, values in metrics.items()}
    shown = Table("side", *ALL_COLUMNS.values(), title=f"{interaction}, {mode}, {split}")
    shown.caption = f"filtered, realistic ranks among {len(graph.entities)} entities" + ties(metrics.values())
    for side, values in metrics.items():
        shown.add_row(side, *(f"{values.model_dump()[column]:.3f}" for column in ALL_COLUMNS))
    console.result(what | {"tie_tolerance": tolerance} | counts | {"sides": sides}, shown)
