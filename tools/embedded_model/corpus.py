"""The corpus: lines of source, title and text. A part of it, chosen by title, is never trained on."""

import hashlib
import lzma
import tarfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

HELD_OUT = 50
"""One title of so many is held out, with all its texts."""


class BadCorpus(Exception):
    """The corpus cannot be read; the message names the line and says the way out."""


@dataclass(frozen=True)
class Entry:
    """A title and one text about it.

    Attributes:
        source: Where the text is from.
        title: What it is about.
        text: One line.
    """

    source: str
    title: str
    text: str

    @property
    def told(self) -> str:
        """Title and text, as a slot of a prompt tells a name and a description."""
        return f"{self.title}, {self.text}"


def read(path: Path) -> list[Entry]:
    """The entries of a UTF-8 TSV file, or of the one file in a tar archive, without repetitions.

    Raises:
        BadCorpus: There is no such file, it is no text, or a line has not three columns.
    """
    try:
        if not tarfile.is_tarfile(path):
            return _entries(path.read_bytes(), path.name)
        with tarfile.open(path) as archive:
            files = [member for member in archive if member.isfile()]
            if len(files) != 1:
                raise BadCorpus(f"{path}: {len(files)} files in the archive; put one TSV file into it")
            inner = archive.extractfile(files[0])
            assert inner is not None  # it is a regular file
            return _entries(inner.read(), files[0].name)
    except (OSError, EOFError, tarfile.TarError, zlib.error, lzma.LZMAError, UnicodeDecodeError) as error:
        raise BadCorpus(f"{path}: cannot be read ({error}); give a UTF-8 TSV file, or a tar archive of one") from error


def _entries(content: bytes, name: str) -> list[Entry]:
    found = dict.fromkeys(_parsed(content.decode("utf-8").split("\n"), name))
    if not found:
        raise BadCorpus(f"{name}: has no lines; each is `source<TAB>title<TAB>text`")
    return list(found)


def _parsed(lines: Iterable[str], name: str) -> Iterator[Entry]:
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        columns = [" ".join(column.split()) for column in line.rstrip("\r").split("\t")]
        if len(columns) != 3 or not all(columns):
            raise BadCorpus(f"{name}, line {number}: write it as `source<TAB>title<TAB>text`, none of them empty")
        yield Entry(*columns)


def split(entries: Sequence[Entry]) -> tuple[list[Entry], list[Entry]]:
    """What is trained on, and what is held out: every text of a title is in the same part, on every machine.

    Raises:
        BadCorpus: One of the two would be empty.
    """
    parts: tuple[list[Entry], list[Entry]] = [], []
    for entry in entries:
        digest = hashlib.sha256(entry.title.lower().encode()).digest()
        parts[int.from_bytes(digest[:8], "big") % HELD_OUT == 0].append(entry)
    if not all(parts):
        raise BadCorpus(f"the corpus has too few titles: one in {HELD_OUT} is held out; give a larger one")
    return parts
