"""What entities and relations are called and what is said of them: `entities.tsv` and `relations.tsv` beside triples.

Each line is an id, its label and, where there is one, its description, separated by tabs. Both files are optional, and
so is every line: an id without one is called by the id, made readable.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from trainer.files import whole
from trainer.graph import DataError, lines_of

MAX_LABEL = 1_000
"""Characters of a name that a scorer takes (`protocol.messages.Name`)."""
MAX_DESCRIPTION = 10_000
"""Characters of a description that a scorer takes (`protocol.messages.Text`); its prompt holds far fewer."""
_FILES = ("entities.tsv", "relations.tsv")


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
        """The texts of ids in their order, no longer than a scorer takes, for a model's rows for example.

        An id that has no text, or an empty label, is its own label, made readable.
        """
        return [_bounded(self.entities, e) for e in entities], [_bounded(self.relations, r) for r in relations]

    def known(self, entities: Collection[str], relations: Collection[str]) -> str:
        """In words, how much there is to say of these ids."""
        counts = [
            f"{sum(bool(one in texts and texts[one].label.strip()) for one in ids)} of {len(ids)} {kind}"
            for kind, ids, texts in (("entities", entities, self.entities), ("relations", relations, self.relations))
        ]
        described = sum(one in self.entities and self.entities[one].description is not None for one in entities)
        return f"labels of {' and '.join(counts)}, where ids stand for the others; descriptions of {described} entities"


def read_texts(folder: Path) -> Texts:
    """The texts in a folder's `entities.tsv` and `relations.tsv`, of which either may be missing.

    Raises:
        DataError: A line does not hold two or three fields, an id has two texts, or a label is too long to be one.
    """
    entities, relations = (_read(folder / name) for name in _FILES)
    return Texts(entities, relations)


def write_texts(folder: Path, texts: Texts, entities: Iterable[str], relations: Iterable[str]) -> None:
    """Write the texts of some ids as `read_texts` reads them; a file without lines is not written."""
    for name, known, ids in zip(_FILES, (texts.entities, texts.relations), (entities, relations), strict=True):
        if own := [one for one in ids if one in known]:
            with whole(folder / name) as file:
                file.writelines(_line(one, known[one]) for one in own)


def remove_texts(folder: Path) -> None:
    """Remove what `write_texts` has written there."""
    for name in _FILES:
        (folder / name).unlink(missing_ok=True)


def _read(path: Path) -> dict[str, Text]:
    texts: dict[str, Text] = {}
    for number, line in lines_of(path) if path.is_file() else ():
        name, *said = line.split("\t")
        if not name or not 1 <= len(said) <= 2:
            raise DataError(f"{path}:{number}: expected an id, its label and perhaps a description, separated by tabs")
        if len(said[0]) > MAX_LABEL:
            raise DataError(
                f"{path}:{number}: a label of {len(said[0])} characters, where at most {MAX_LABEL} are taken; "
                "longer text belongs into the third column"
            )
        text = Text(said[0], said[1] or None if len(said) == 2 else None)
        if texts.setdefault(name, text) != text:
            raise DataError(f"{path}:{number}: {name!r} stands there twice, with other texts; keep one")
    return texts


def _line(name: str, text: Text) -> bytes:
    fields = [name, text.label, *([text.description] if text.description else [])]
    return "\t".join(fields).encode() + b"\n"


def _bounded(known: Mapping[str, Text], name: str) -> Text:
    text = known.get(name, Text(""))
    label = text.label.strip() or name.replace("_", " ").strip() or name
    description = text.description and text.description[:MAX_DESCRIPTION]
    return Text(label[:MAX_LABEL], description)
