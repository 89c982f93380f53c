"""LibKGE's folders: numbers in `.del` files, which `dataset.yaml` may name (https://github.com/uma-pi1/kge)."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from trainer.formats.numbered import Numbering, named_triples
from trainer.graph import SPLITS, DataError, Graph, lines_of

MARKS = ("dataset.yaml", "train.del")
"""The files by which a folder is known."""
_ORDER = (0, 1, 2)


def read_libkge(folder: Path) -> Graph:
    """The graph in LibKGE's form, with the names of its entities and relations as ids.

    Raises:
        DataError: A file is missing, or a line does not hold what it should.
    """
    said = _settings(folder / "dataset.yaml")
    entities, relations = (_numbering(_file(folder, said, kind)) for kind in ("entity_ids", "relation_ids"))
    files = {split: _file(folder, said, split) for split in SPLITS}
    return Graph.from_names(
        {split: named_triples(file, lines_of(file), _ORDER, entities, relations) for split, file in files.items()},
        str(folder),
    )


def _settings(path: Path) -> Mapping[str, Any]:
    """What `dataset.yaml` says; nothing where there is none."""
    if not path.is_file():
        return {}
    try:
        return dict(yaml.safe_load(path.read_text(encoding="utf-8"))["dataset"])
    except (yaml.YAMLError, UnicodeDecodeError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise DataError(f"{path}: is not LibKGE's description of a data set ({error})") from error


def _file(folder: Path, said: Mapping[str, Any], kind: str) -> Path:
    name = said.get(f"files.{kind}.filename", f"{kind}.del")
    if not isinstance(name, str) or Path(name).name != name:
        # Its value is not shown: a few lines of aliases could make it longer than any memory.
        raise DataError(f"{folder / 'dataset.yaml'}: files.{kind}.filename is no name of a file in this folder")
    if not (folder / name).is_file():
        raise DataError(f"{folder / name}: is missing; a folder of LibKGE's needs it")
    return folder / name


def _numbering(path: Path) -> Numbering:
    pairs = ((line, text.partition("\t")) for line, text in lines_of(path))
    return Numbering.of(path, ((line, number.strip(), name) for line, (number, _, name) in pairs))
