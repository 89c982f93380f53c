"""OpenKE's folders: numbers in `train2id.txt`, `valid2id.txt` and `test2id.txt`, names in two files beside them.

Every file begins with the count of its lines. A triple's line is head, tail, relation, in this order
(https://github.com/thunlp/OpenKE, "Data").
"""

from pathlib import Path

from trainer.formats.numbered import Line, Numbering, named_triples
from trainer.graph import SPLITS, DataError, Graph, lines_of

MARK = "train2id.txt"
"""The file by which a folder is known."""
_ORDER = (0, 2, 1)


def read_openke(folder: Path) -> Graph:
    """The graph in OpenKE's form, with the names of its entities and relations as ids.

    Raises:
        DataError: A file is missing, or does not hold what its first line says.
    """
    entities, relations = _numbering(folder / "entity2id.txt"), _numbering(folder / "relation2id.txt")
    files = {split: folder / f"{split}2id.txt" for split in SPLITS}
    return Graph.from_names(
        {split: named_triples(file, _counted(file), _ORDER, entities, relations) for split, file in files.items()},
        str(folder),
    )


def _numbering(path: Path) -> Numbering:
    pairs = ((line, text.rpartition("\t")) for line, text in _counted(path))
    return Numbering.of(path, ((line, number.strip(), name) for line, (name, _, number) in pairs))


def _counted(path: Path) -> list[Line]:
    """The lines after the first one, which says how many there are."""
    if not path.is_file():
        raise DataError(f"{path}: is missing; a folder of OpenKE's needs it")
    lines = list(lines_of(path))
    said = lines[0][1].strip() if lines else ""
    if said != str(len(lines) - 1):
        raise DataError(f"{path}: its first line should say how many follow: {len(lines) - 1}, not {said!r}")
    return lines[1:]
