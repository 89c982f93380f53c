"""Triples as numbers, with files that name each number: what LibKGE's and OpenKE's folders have in common."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from trainer.graph import DataError, Named

Line = tuple[int, str]
"""The number of a line in its file, from 1, and what it holds."""


@dataclass(frozen=True)
class Numbering:
    """What the numbers of one file stand for.

    Attributes:
        path: The file.
        names: Names by number, as it is written.
    """

    path: Path
    names: Mapping[str, str]

    @classmethod
    def of(cls, path: Path, pairs: Iterable[tuple[int, str, str]]) -> "Numbering":
        """A numbering of the lines' numbers, each with a number and a name.

        Raises:
            DataError: A line lacks one of them, or two lines have the same.
        """
        names: dict[str, str] = {}
        known = set()
        for line, number, name in pairs:
            if not number.isdecimal() or not name:
                raise DataError(f"{path}:{line}: expected a name and its number, separated by a tab")
            if number in names or name in known:
                raise DataError(f"{path}:{line}: {name!r} or its number {number} stands there twice")
            names[number] = name
            known.add(name)
        return cls(path, names)


def named_triples(
    path: Path, lines: Iterable[Line], order: tuple[int, int, int], entities: Numbering, relations: Numbering
) -> list[Named]:
    """Lines of three numbers in words.

    Args:
        path: The file of the lines.
        lines: Numbers separated by white space.
        order: Where head, relation and tail stand, from 0.
        entities: What heads and tails stand for.
        relations: What relations stand for.

    Raises:
        DataError: A line does not hold three numbers that have names.
    """
    triples = []
    head, relation, tail = order
    for line, text in lines:
        fields = text.split()
        try:
            if len(fields) != 3:
                raise DataError(f"{path}:{line}: expected three numbers")
            names = entities.names[fields[head]], relations.names[fields[relation]], entities.names[fields[tail]]
            triples.append(names)
        except KeyError as error:
            known = f"{entities.path.name} or {relations.path.name}"
            raise DataError(f"{path}:{line}: {error.args[0]} is not in {known}") from error
    return triples
