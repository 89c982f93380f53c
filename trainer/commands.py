"""What each command does, apart from how its arguments are written."""

import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from protocol.federation import InteractionName, LocalSettings, Mode, Split, TrainingSettings
from protocol.keys import MIN_KEY_BYTES
from protocol.scoring import HEAD, TAIL
from trainer.answers import Queries
from trainer.collection import pool, restricted
from trainer.coordinator import Coordinator
from trainer.dataset import read_dataset
from trainer.demo import Demo
from trainer.federation import Participant, client_result, join, seed_of
from trainer.graph import DataError, Graph, read_folder, write_folder
from trainer.home import Home
from trainer.interactions import Interaction, interaction_of
from trainer.local import train_alone
from trainer.model import Model
from trainer.presets import LOCAL, training_settings
from trainer.ranking import known_answers, rank
from trainer.results import COLUMNS, table, write_results
from trainer.saved import SavedModel, read_card, read_model, save_model
from trainer.scorer import Names, ScorerClient
from trainer.service import Service
from trainer.split import deal


class UsageError(Exception):
    """The arguments do not fit together; the message says which would."""


def run_demo(
    console: Console,
    out: Path | None,
    dataset: str,
    clients: int,
    interactions: list[InteractionName],
    seed: int,
    rounds: int | None,
) -> None:
    """Run the demo and print its table."""
    if out is not None and out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"{out} exists and is not an empty folder; give --out a new one")
    started = time.monotonic()
    with ExitStack() as stack:
        folder = out or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tripleherd-")))
        results = Demo(dataset, clients, interactions, seed, folder, rounds).run(console)
    console.print(table(results, f"{dataset}, {clients} clients, both sides, weighted by test triples"))
    console.print(f"{time.monotonic() - started:.0f} s" + (f"; everything is in {out}" if out else ""))


def run_split(console: Console, dataset: str, out: Path, clients: int, seed: int) -> None:
    """Deal a data set into folders."""
    parts = deal(read_dataset(dataset), clients, seed)
    if existing := [out / f"client_{i}" for i in range(clients) if (out / f"client_{i}" / "train.tsv").exists()]:
        raise UsageError(f"{existing[0]} already holds a graph; give --out another folder")
    shown = Table("client", "relations", "entities", "train", "valid", "test")
    for i, named in enumerate(parts):
        write_folder(out / f"client_{i}", named)
        graph = Graph.from_names(named)
        sizes = [
            len(graph.relations),
            len(graph.entities),
            *(len(graph.triples[s]) for s in ("train", "valid", "test")),
        ]
        shown.add_row(f"client_{i}", *map(str, sizes))
    console.print(shown)


def run_start(
    console: Console,
    token_file: Path,
    coordinator: str,
    interaction: InteractionName,
    scorer: str | None,
    once: bool,
    changes: dict[str, Any],
    local: dict[str, Any],
) -> None:
    """Start a training."""
    say = _sayer(console)
    with Service("coordinator", coordinator, _secret(token_file), say) as service:
        operator = Coordinator(service)
        if once and (trainings := operator.rounds(limit=1).trainings):
            say(f"the coordinator has a training already ({trainings[-1].phase}); it is left as it is")
            return
        with _encoder(interaction, scorer, None, say) as encoder:
            settings = _settings(interaction, encoder, changes, local)
        summary = operator.start(settings)
    say(f"training {summary.training} of {interaction} begins when {settings.clients} clients have joined")


def run_join(
    console: Console,
    data: Path,
    shared_key_file: Path,
    coordinator: str,
    invitation_file: Path | None,
    scorer: str | None,
    name: str | None,
    home: Path | None,
    names: bool,
) -> None:
    """Take part in a training and print this client's rows."""
    say, graph = _sayer(console), _graph(console, data)
    name = name or data.resolve().name
    shared_key = _secret(shared_key_file).encode()
    if len(shared_key) < MIN_KEY_BYTES:
        raise UsageError(f"{shared_key_file}: the clients' shared key must have at least {MIN_KEY_BYTES} bytes")
    kept = Home(home or Path(".tripleherd") / name)
    with ExitStack() as stack:
        service = stack.enter_context(Service("coordinator", coordinator, None, say))
        client = Coordinator(service)

        def interaction_for(settings: TrainingSettings) -> Interaction:
            encoder = stack.enter_context(_encoder(settings.interaction, scorer, graph if names else None, say))
            if encoder is not None and settings.scorer is not None:
                encoder.require(settings.scorer)
            return interaction_of(settings.interaction, encoder)

        invitation = _secret(invitation_file) if invitation_file else None
        who = join(client, kept, graph, name, shared_key, invitation)
        say(f"{name} is client {who}")
        results = Participant(name, graph, client, kept, interaction_for, say).run()
    console.print(table(results, f"{name}: both sides, {results[0].triples if results else 0} test triples"))


def run_train(
    console: Console,
    folders: list[Path],
    out: Path,
    interaction: InteractionName,
    scorer: str | None,
    names: bool,
    changes: dict[str, Any],
    local: dict[str, Any],
) -> None:
    """Train one model on one or several graphs pooled, and measure it on each."""
    say, graphs = _sayer(console), [_graph(console, folder) for folder in folders]
    mode: Mode = "collection" if len(graphs) > 1 else "isolation"
    pooled = pool(graphs) if len(graphs) > 1 else graphs[0]
    with _encoder(interaction, scorer, pooled if names else None, say) as encoder:
        settings = _settings(interaction, encoder, changes, local)
        model = interaction_of(interaction, encoder)
        trained = train_alone(pooled, model, settings, seed_of(settings.seed, mode), say)
        save_model(out, pooled, mode, settings, dict(trained.state))
        scores = Model.of_state(model, trained.state).rank_scores
        results = []
        for folder, graph in zip(folders, graphs, strict=True):
            if not len(graph.triples["test"]):
                say(f"{folder}: there are no test triples to rank")
                continue
            own = restricted(scores, pooled.entities, pooled.relations, graph)
            ranks = rank(graph.triples["test"], known_answers(graph, "test"), own)
            results.append(client_result(graph, folder.resolve().name, settings, mode, ranks))
    write_results(out / "results.json", results)
    console.print(table(results, f"{mode}, both sides, weighted by test triples"))


def run_evaluate(console: Console, folder: Path, data: Path, split: Split, scorer: str | None) -> None:
    """Rank a split with a saved model and print the metrics of each side."""
    with _saved(console, folder, scorer) as model:
        graph = _graph(console, data)
        if not len(graph.triples[split]):
            raise DataError(f"{data}: there are no {split} triples to rank")
        scores = restricted(model.scorer, model.card.entities, model.card.relations, graph)
        metrics = rank(graph.triples[split], known_answers(graph, split), scores).metrics()
    shown = Table("side", *COLUMNS.values(), title=f"{model.card.settings.interaction}, {model.card.mode}, {split}")
    shown.caption = f"filtered, realistic ranks among {len(graph.entities)} entities"
    for side, values in metrics.items():
        shown.add_row(side, *(f"{values.model_dump()[column]:.3f}" for column in COLUMNS))
    console.print(shown)


def run_predict(
    console: Console,
    folder: Path,
    head: str | None,
    relation: str,
    tail: str | None,
    top: int,
    data: Path | None,
    scorer: str | None,
) -> None:
    """Print the best candidates of one query."""
    if (head is None) == (tail is None):
        raise UsageError("give either --head, to ask for tails, or --tail, to ask for heads")
    known: set[tuple[str, str, str]] = set()
    if data is not None:
        graph = read_folder(data)
        known = {triple for split in graph.triples for triple in graph.named(split)}
    with _saved(console, folder, scorer) as model:
        given = _index(model.card.entities, head or tail or "", "entity")
        number = _index(model.card.relations, relation, "relation")
        side = TAIL if tail is None else HEAD
        columns = [np.array([value], dtype=np.int64) for value in (given, number, side)]
        scores = model.scorer(Queries(*columns))[0]
    asked = f"{head}, {relation}, ?" if tail is None else f"?, {relation}, {tail}"
    shown = Table("rank", "entity", "score", *(["known"] if data else []), title=f"({asked})")
    for place, entity in enumerate(np.argsort(-scores, kind="stable")[:top], 1):
        name = model.card.entities[entity]
        triple = (head, relation, name) if tail is None else (name, relation, tail)
        mark = [("yes" if triple in known else "")] if data else []
        shown.add_row(str(place), name, f"{scores[entity]:.3f}", *mark)
    console.print(shown)


def _settings(
    interaction: InteractionName, encoder: ScorerClient | None, changes: dict[str, Any], local: dict[str, Any]
) -> TrainingSettings:
    """The preset with what the user gave."""
    given = {name: value for name, value in local.items() if value is not None}
    changed = LocalSettings.model_validate(LOCAL[interaction].model_dump() | given)
    wanted = {name: value for name, value in changes.items() if value is not None}
    return training_settings(interaction, encoder, encoder.identity if encoder else None, local=changed, **wanted)


@contextmanager
def _encoder(
    interaction: InteractionName, scorer: str | None, graph: Graph | None, say: Any
) -> Iterator[ScorerClient | None]:
    """The scorer for `llama`, with the graph's names where a graph is given; nothing for other interactions."""
    if interaction != "llama":
        yield None
        return
    if scorer is None:
        raise UsageError("the interaction `llama` needs a scorer: give its address as --scorer")
    with Service("scorer", scorer, None, say) as service:
        yield ScorerClient(service, Names.of(graph) if graph else None)


@contextmanager
def _saved(console: Console, folder: Path, scorer: str | None) -> Iterator[SavedModel]:
    """A saved model, with its scorer where it needs one."""
    settings = read_card(folder).settings
    with _encoder(settings.interaction, scorer, None, _sayer(console)) as encoder:
        if encoder is not None and settings.scorer is not None:
            encoder.require(settings.scorer)
        yield read_model(folder, encoder)


def _graph(console: Console, folder: Path) -> Graph:
    graph = read_folder(folder)
    sizes = ", ".join(f"{len(graph.triples[split])} {split}" for split in graph.triples)
    text = f"{folder}: {len(graph.entities)} entities, {len(graph.relations)} relations; {sizes} triples"
    if left_out := sum(graph.left_out.values()):
        text += f"; {left_out} name an entity or relation that training lacks and are left out"
    console.print(text, soft_wrap=True, highlight=False)
    return graph


def _secret(path: Path) -> str:
    try:
        secret = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: cannot be read as a secret ({error})") from error
    if not secret:
        raise UsageError(f"{path}: is empty; it should hold a secret")
    return secret


def _index(names: list[str], name: str, kind: str) -> int:
    if name not in names:
        close = ", ".join(([n for n in names if name.lower() in n.lower()] or get_close_matches(name, names))[:5])
        raise UsageError(f"the model knows no {kind} {name!r}" + (f"; close: {close}" if close else ""))
    return names.index(name)


def _sayer(console: Console) -> Any:
    def say(text: str) -> None:
        console.print(text, soft_wrap=True, highlight=False, markup=False)

    return say
