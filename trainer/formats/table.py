"""One file as a whole graph: tab-separated, or a `.csv`, with head, relation and tail in columns of a user's choice."""

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from trainer.graph import DataError, Named, lines_of

Row = tuple[int, list[str]]
"""The number of a line, from 1, and its fields."""


@dataclass(frozen=True)
class Columns:
    """Which columns are head, relation and tail.

    Attributes:
        chosen: Positions from 1, where the file has no header line, or else three names of its header line.
    """

    chosen: tuple[str, str, str]

    @classmethod
    def parse(cls, text: str) -> "Columns":
        """Columns as a user writes them: `1,2,3`, or `subject,predicate,object`.

        Raises:
            ValueError: They are not three.
        """
        names = [name.strip() for name in text.split(",")]
        zero = any(name.isdecimal() and int(name) == 0 for name in names)
        if len(names) != 3 or not all(names) or len(set(names)) < 3 or zero:
            raise ValueError("give three columns, as 1,2,3 or as names of the header line")
        return cls((names[0], names[1], names[2]))

    @property
    def by_position(self) -> bool:
        """Whether the file has no header line."""
        return all(name.isdecimal() for name in self.chosen)

    def positions(self, path: Path, header: list[str]) -> list[int]:
        """Where the columns are, from 0.

        Raises:
            DataError: The header line lacks one.
        """
        if self.by_position:
            return [int(name) - 1 for name in self.chosen]
        if missing := [name for name in self.chosen if name not in header]:
            raise DataError(f"{path}: its header line has no column {missing[0]!r}, but {', '.join(header)}")
        return [header.index(name) for name in self.chosen]


def read_table(path: Path, columns: Columns | None = None) -> list[Named]:
    """The triples of one file; without `columns` it has three and no header line.

    Raises:
        DataError: A line lacks a field, or the file is not UTF-8 or no CSV.
    """
    rows = _csv_rows(path) if path.suffix.lower() == ".csv" else _tsv_rows(path)
    return list(_triples(path, rows, columns))


def _triples(path: Path, rows: Iterator[Row], columns: Columns | None) -> Iterator[Named]:
    wanted, width = [0, 1, 2], 3
    if columns is not None:
        wanted = columns.positions(path, [] if columns.by_position else next(rows, (1, []))[1])
        width = max(wanted) + 1
    for number, fields in rows:
        if columns is None and len(fields) > width:
            raise DataError(
                f"{path}:{number}: {len(fields)} columns; `tripleherd split {path} --columns HEAD,RELATION,TAIL "
                "--clients 1 --out FOLDER` takes three of them, by position or by name"
            )
        if len(fields) < width or not all(fields[place] for place in wanted):
            raise DataError(f"{path}:{number}: expected head, relation, tail, {_separated(path)}")
        head, relation, tail = (fields[place] for place in wanted)
        yield head, relation, tail


def _separated(path: Path) -> str:
    return "separated by commas" if path.suffix.lower() == ".csv" else "separated by tabs"


def _tsv_rows(path: Path) -> Iterator[Row]:
    return ((number, line.split("\t")) for number, line in lines_of(path))


def _csv_rows(path: Path) -> Iterator[Row]:
    """Rows as RFC 4180 quotes them. A field may span lines, so lines are counted by the reader."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.reader(file, strict=True)
            yield from ((rows.line_num, fields) for fields in rows if fields)
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not a UTF-8 text file") from error
    except csv.Error as error:
        raise DataError(f"{path}:{rows.line_num}: {error}") from error
