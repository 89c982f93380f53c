"""The clients of an experiment's data sets: folders that are there, or a data set dealt anew for each seed."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from trainer.dataset import read_dataset, texts_of
from trainer.experiments.schema import DataChoice, Experiment
from trainer.graph import DataError, Graph, write_folder
from trainer.split import deal
from trainer.statistics import entities_of, relations_of
from trainer.texts import Texts, remove_texts, write_texts


@dataclass(frozen=True)
class Clients:
    """The clients of one data set with one seed.

    Attributes:
        folders: By the client's name.
        digest: SHA-256 over the names and what the folders hold.
    """

    folders: Mapping[str, Path]
    digest: str

    @classmethod
    def of(cls, folders: list[Path]) -> "Clients":
        """Clients with the names of their folders.

        Raises:
            DataError: A folder cannot be read as a graph.
        """
        digest = hashlib.sha256()
        for folder in folders:
            read_dataset(str(folder))
            for file in sorted(path for path in folder.rglob("*") if path.is_file()):
                content = hashlib.sha256(file.read_bytes()).hexdigest()
                digest.update(f"{folder.name}/{file.relative_to(folder).as_posix()} {content}\n".encode())
        return cls({folder.name: folder for folder in folders}, digest.hexdigest())


def clients_of(experiment: Experiment, base: Path, out: Path) -> dict[tuple[str, int], Clients]:
    """Each data set's clients with each seed; what is dealt is written below `out`.

    Args:
        experiment: Whose data.
        base: Where paths of the experiment begin.
        out: Gets `NAME-seedN/client_*`; written again where it is there, with the same content.

    Raises:
        DataError: Something cannot be read or dealt.
    """
    found: dict[tuple[str, int], Clients] = {}
    for name, choice in experiment.data.items():
        if choice.folder is not None:
            clients = Clients.of(_client_folders(base / choice.folder))
            found |= {(name, seed): clients for seed in experiment.seeds}
            continue
        path = base / str(choice.dataset)
        is_name = path.parent == base and not path.exists()
        source = str(choice.dataset if is_name else path)
        graph, texts = read_dataset(source), texts_of(source)
        for seed in experiment.seeds:
            found[name, seed] = _dealt(graph, texts, choice, seed, out / f"{name}-seed{seed}")
    return found


def _client_folders(folder: Path) -> list[Path]:
    folders = [path for path in folder.glob("client_*") if path.is_dir()]
    if not folder.is_dir():
        raise DataError(f"{folder}: there is no such folder; it should hold a folder client_… for each client")
    if not folders:
        raise DataError(f"{folder}: there is no folder client_… in it; `tripleherd split` makes some")
    return sorted(folders, key=lambda path: (len(path.name), path.name))  # client_10 after client_9


def _dealt(graph: Graph, texts: Texts, choice: DataChoice, seed: int, out: Path) -> Clients:
    assert choice.split is not None
    folders = []
    for number, parts in enumerate(deal(graph, choice.split.clients, seed, choice.split.by, choice.split.skew)):
        folders.append(out / f"client_{number}")
        remove_texts(folders[-1])  # of a former deal, whose source had some
        write_folder(folders[-1], parts)
        write_texts(folders[-1], texts, sorted(entities_of(parts)), sorted(relations_of(parts)))
    return Clients.of(folders)
