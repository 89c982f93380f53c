"""Where graphs and texts come from by name: a folder in any form that is known, one file, or a PyKEEN data set."""

from pathlib import Path

from trainer.formats import libkge, openke
from trainer.formats.pykeen import read_pykeen
from trainer.formats.table import Columns, read_table
from trainer.graph import DataError, Graph, read_folder
from trainer.texts import Texts, read_texts


def read_dataset(source: str, columns: Columns | None = None) -> Graph:
    """The graph of a folder, of one file, or of a PyKEEN data set such as `umls`, `nations` or `fb15k237`.

    Args:
        source: A path, or a data set's name.
        columns: Of the one file; its triples are all in the training split.

    Raises:
        DataError: It is none of these, cannot be read, or has no columns to choose.
    """
    path = Path(source)
    if path.suffix == ".pkl" and path.is_file():
        raise DataError(f"{path}: a pickle is read by `tripleherd convert` alone, which makes folders of it")
    if path.is_file():
        return Graph.from_names({"train": read_table(path, columns)}, source)
    if columns is not None:
        raise DataError(f"{source}: --columns is for one file, which this is not")
    if path.exists() or path.name != source:
        return _read_folder(path)
    return Graph.from_names(read_pykeen(source), source)


def _read_folder(folder: Path) -> Graph:
    """The graph in a folder, by the form that the files in it have; our own goes first."""
    if not (folder / "train.tsv").is_file():
        if (folder / openke.MARK).is_file():
            return openke.read_openke(folder)
        if any((folder / mark).is_file() for mark in libkge.MARKS):
            return libkge.read_libkge(folder)
        if (folder / "train.txt").is_file():
            return read_folder(folder, suffix=".txt")
    return read_folder(folder)


def texts_of(source: str) -> Texts:
    """The texts in a folder, or beside one file; a PyKEEN data set has none.

    Raises:
        DataError: A file of texts cannot be read.
    """
    path = Path(source)
    if path.is_file():
        return read_texts(path.parent)
    return read_texts(path) if path.is_dir() else Texts()
