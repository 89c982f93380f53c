"""Making the folders that clients join with: dealing a graph, and converting what others have dealt."""

from pathlib import Path

from trainer.dataset import texts_of
from trainer.dealt import require_free, write_dealt
from trainer.formats.fede import read_fede
from trainer.formats.table import Columns
from trainer.graph import Parts
from trainer.inputs import graph_of, progress, shared_key_in
from trainer.output import Output
from trainer.owners import By
from trainer.split import deal
from trainer.statistics import Origin
from trainer.texts import Texts


def run_split(
    console: Output,
    source: str,
    out: Path,
    clients: int,
    by: By,
    skew: float | None,
    seed: int,
    columns: Columns | None,
    shared_key_file: Path | None,
) -> None:
    """Deal a graph into folders, and print the statistics."""
    require_free(out, clients)
    key = None if shared_key_file is None else shared_key_in(shared_key_file)
    with progress(console) as (say, now):
        graph, texts = graph_of(source, say, columns), texts_of(source)
        now(f"dealing to {clients} clients")
        parts = deal(graph, clients, seed, by, skew, key)
        statistics = write_dealt(
            out, parts, texts, Origin(source=source, by=by, skew=skew, seed=seed, by_shared_key=key is not None)
        )
    console.result(statistics.model_dump(mode="json"), statistics.table())


def run_convert(console: Output, file: Path, out: Path) -> None:
    """Write the clients of a data set of FedE's into folders, and print the statistics."""
    clients: list[Parts] = read_fede(file)
    require_free(out, len(clients))
    statistics = write_dealt(out, clients, Texts(), Origin(source=str(file)))
    console.result(statistics.model_dump(mode="json"), statistics.table())
