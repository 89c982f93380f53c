"""A dealt graph on the disk: a folder a client to join with, and `statistics.json` beside them, written last."""

import shutil
from pathlib import Path

from trainer.graph import DataError, Parts, write_folder
from trainer.results import write
from trainer.statistics import Origin, Statistics, entities_of, relations_of
from trainer.texts import Texts, write_texts

STATISTICS = "statistics.json"


def require_free(out: Path, clients: int) -> None:
    """Refuse to write over anything.

    Raises:
        DataError: There is a client's folder that holds something, or there are statistics.
    """
    places = [out / STATISTICS, *(out / name for name in names_of(clients))]
    if taken := [place for place in places if place.is_file() or (place.is_dir() and any(place.iterdir()))]:
        raise DataError(f"{taken[0]} is there already; give --out another folder")


def names_of(clients: int) -> list[str]:
    """The folders' names."""
    return [f"client_{i}" for i in range(clients)]


def write_dealt(out: Path, clients: list[Parts], texts: Texts, origin: Origin) -> Statistics:
    """Write each client's triples, and those texts that are of its own entities and relations.

    Everything is written under another name and then moved into place, so that no client's folder ever stands there in
    part, and `statistics.json` only once all of them do.

    Raises:
        DataError: A name cannot be written as TSV.
    """
    named = dict(zip(names_of(len(clients)), clients, strict=True))
    statistics = Statistics.of(named, origin)
    made = out / ".dealt.tmp"
    shutil.rmtree(made, ignore_errors=True)  # a killed process may have left it
    try:
        for name, parts in named.items():
            write_folder(made / name, parts)
            write_texts(made / name, texts, sorted(entities_of(parts)), sorted(relations_of(parts)))
        for name in named:
            (made / name).rename(out / name)
        write(out / STATISTICS, statistics.model_dump())
    finally:
        shutil.rmtree(made, ignore_errors=True)
    return statistics
