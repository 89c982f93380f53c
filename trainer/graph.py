"""A client's knowledge graph: triples as indices, with the names they stand for, read from a folder of TSV files."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from trainer.files import whole

Triples = NDArray[np.int64]
"""int64 [t, 3]: head, relation, tail."""

Named = tuple[str, str, str]
"""A triple in words: head, relation, tail."""

Parts = dict[str, list[Named]]
"""The triples of a graph in words, by split."""

SPLITS = ("train", "valid", "test")


class DataError(Exception):
    """The data cannot be used; the message names the file and the way out."""


@dataclass(frozen=True, eq=False)
class Graph:
    """Triples over the entities and relations of the training split. A graph equals itself alone, and may be a key.

    Attributes:
        entities: Ids of the entities that occur in training, sorted; they are the candidates of every rank.
        relations: Ids of the relations that occur in training, sorted.
        triples: int64 [t, 3] for each of `SPLITS`.
        left_out: Triples of valid and test that name an entity or a relation that training lacks, by split. No model
            of this client can know them, so they are not ranked.
        repeated: Lines that say again what their split has said; they count once.
        in_training: Triples of valid and test that training holds too.
    """

    entities: list[str]
    relations: list[str]
    triples: Mapping[str, Triples]
    left_out: Mapping[str, int] = field(default_factory=dict)
    repeated: int = 0
    in_training: int = 0

    @property
    def train(self) -> Triples:
        """int64 [t, 3]: what is trained on."""
        return self.triples["train"]

    @classmethod
    def from_names(cls, named: Mapping[str, Iterable[Named]], source: str = "the graph") -> "Graph":
        """Index named triples, which errors call by their source.

        Raises:
            DataError: The training split is empty.
        """
        train = list(named["train"])
        if not train:
            raise DataError(f"{source}: the training split holds no triple")
        entities = sorted({entity for head, _, tail in train for entity in (head, tail)})
        relations = sorted({relation for _, relation, _ in train})
        entity_index = {name: i for i, name in enumerate(entities)}
        relation_index = {name: i for i, name in enumerate(relations)}
        trained, triples, left_out, repeated, in_training = set(train), {}, {}, 0, 0
        for split in SPLITS:
            lines = train if split == "train" else list(named.get(split, ()))
            rows = list(dict.fromkeys(lines))
            repeated += len(lines) - len(rows)
            in_training += 0 if split == "train" else len(trained.intersection(rows))
            known = [
                (entity_index[h], relation_index[r], entity_index[t])
                for h, r, t in rows
                if h in entity_index and r in relation_index and t in entity_index
            ]
            triples[split] = np.array(known, dtype=np.int64).reshape(-1, 3)
            left_out[split] = len(rows) - len(known)
        return cls(entities, relations, triples, left_out, repeated, in_training)

    @property
    def digest(self) -> str:
        """SHA-256 over the entities and relations in their order: graphs with another digest have other rows."""
        return hashlib.sha256(json.dumps([self.entities, self.relations]).encode()).hexdigest()

    @property
    def training_digest(self) -> str:
        """SHA-256 over what is trained on: the entities, the relations and the training triples in their order."""
        return hashlib.sha256(self.digest.encode() + self.train.tobytes()).hexdigest()

    def in_order(self, entities: list[str], relations: list[str]) -> "Graph":
        """The same graph, its entities and relations numbered in another order."""
        entity = _renumbering(self.entities, entities)
        relation = _renumbering(self.relations, relations)
        columns = {
            split: np.stack([entity[t[:, 0]], relation[t[:, 1]], entity[t[:, 2]]], 1)
            for split, t in self.triples.items()
        }
        return replace(self, entities=entities, relations=relations, triples=columns)

    def named(self, split: str) -> list[Named]:
        """The triples of a split in words."""
        return self.words(self.triples[split])

    def words(self, triples: Triples) -> list[Named]:
        """Any triples of this graph in words."""
        return [(self.entities[h], self.relations[r], self.entities[t]) for h, r, t in triples.tolist()]


def _renumbering(old: list[str], new: list[str]) -> NDArray[np.int64]:
    """int64 [n]: the new number of each old one."""
    number = {name: i for i, name in enumerate(new)}
    return np.array([number[name] for name in old], dtype=np.int64)


def read_folder(folder: Path, suffix: str = ".tsv") -> Graph:
    """The graph in a folder's `train.tsv`, `valid.tsv` and `test.tsv`: head, relation, tail, separated by tabs.

    Raises:
        DataError: The folder or `train.tsv` is missing, or a line does not hold three fields.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: there is no such folder; it should hold train.tsv, valid.tsv and test.tsv")
    if not (folder / f"train{suffix}").is_file():
        dealt = sorted(part.parent.name for part in folder.glob(f"*/train{suffix}"))
        way = (
            f"; do you mean {folder / dealt[0]}?" if dealt else "; each line is head, relation, tail, separated by tabs"
        )
        raise DataError(f"{folder}: train{suffix} is missing{way}")
    return Graph.from_names({split: read_tsv(folder / f"{split}{suffix}") for split in SPLITS}, str(folder))


def read_tsv(path: Path) -> list[Named]:
    """The triples of one file; a missing file holds none.

    Raises:
        DataError: A line does not hold three fields, or the file is not UTF-8.
    """
    if not path.is_file():
        return []
    triples = []
    for number, line in lines_of(path):
        fields = line.split("\t")
        if len(fields) != 3 or not all(fields):
            raise DataError(f"{path}:{number}: expected head, relation, tail, separated by tabs")
        triples.append((fields[0], fields[1], fields[2]))
    return triples


def lines_of(path: Path) -> Iterator[tuple[int, str]]:
    """The lines of a text file with their numbers from 1, without line ends and without blank ones.

    Raises:
        DataError: The file is not UTF-8.
    """
    try:
        with path.open(encoding="utf-8-sig") as lines:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    yield number, line.rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not a UTF-8 text file") from error


def write_folder(folder: Path, named: Mapping[str, Iterable[Named]]) -> None:
    """Write named triples as `read_folder` reads them, `train.tsv` last: where it stands, the graph is complete.

    Raises:
        DataError: A name holds a tab or a line break, or is empty.
    """
    for split in reversed(SPLITS):
        triples = list(named.get(split, ()))
        if bad := [name for triple in triples for name in triple if not name or set(name) & set("\t\r\n")]:
            raise DataError(f"the name {bad[0]!r} cannot be written as TSV: it is empty or holds a tab or a line break")
        with whole(folder / f"{split}.tsv") as file:
            file.writelines("\t".join(triple).encode() + b"\n" for triple in triples)
