"""What entities and relations are called and what is said of them: `entities.tsv` and `relations.tsv` beside triples.

Each line is an id, its label and, where there is one, its description, separated by tabs. Both files are optional.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from trainer.graph import DataError


@dataclass(frozen=True)
class Text:
    """What one entity or relation is called, and what is said of it, if anything."""

    label: str
    description: str | None = None


@dataclass(frozen=True)
class Texts:
    """Texts by id, as they stand in the files."""

    entities: Mapping[str, Text] = field(default_factory=dict)
    relations: Mapping[str, Text] = field(default_factory=dict)

    def of(self, entities: Iterable[str], relations: Iterable[str]) -> tuple[list[Text], list[Text]]:
        """The texts of ids in their order; an id that has none is its own label, made readable."""
        return [_text(self.entities, e) for e in entities], [_text(self.relations, r) for r in relations]


def read_texts(folder: Path) -> Texts:
    """The texts in a folder's `entities.tsv` and `relations.tsv`, of which either may be missing.

    Raises:
        DataError: A line does not hold two or three fields, or the file is not UTF-8.
    """
    entities, relations = (_read(folder / f"{kind}.tsv") for kind in ("entities", "relations"))
    return Texts(entities, relations)


def _read(path: Path) -> dict[str, Text]:
    if not path.is_file():
        return {}
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not a UTF-8 text file") from error
    texts = {}
    for number, line in enumerate(lines, 1):
        name, *said = line.rstrip("\r").split("\t")
        if not line.strip():
            continue
        if not name or not 1 <= len(said) <= 2:
            raise DataError(f"{path}:{number}: expected an id, its label and perhaps a description, separated by tabs")
        texts[name] = Text(said[0], said[1] or None if len(said) == 2 else None)
    return texts


def _text(known: Mapping[str, Text], name: str) -> Text:
    text = known.get(name, Text(""))
    return Text(text.label.strip() or name.replace("_", " ").strip() or name, text.description)
