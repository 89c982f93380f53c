"""What a paper's table says of a graph that is dealt: sizes, and which entities and relations clients share."""

from collections import Counter
from collections.abc import Iterable, Mapping
from importlib.metadata import version

from pydantic import BaseModel
from rich.table import Table

from trainer.graph import SPLITS, Parts
from trainer.owners import By


class Origin(BaseModel):
    """Where the clients' triples come from.

    Attributes:
        source: The folder, file or data set, as it was given.
        by: What stayed together, and `skew` and `seed`, as `trainer.split.deal` has them; None where others dealt.
        by_shared_key: Whether the clients' shared key said which triples are for what.
    """

    source: str
    by: By | None = None
    skew: float | None = None
    seed: int | None = None
    by_shared_key: bool = False


class Sizes(BaseModel):
    """Of one client, or of all together, where each entity and relation counts once.

    Attributes:
        triples: By split.
        shared_entities: Those that at least two clients hold.
        shared_entities_part: What part of the entities that is.
        own_entities: Those that one client alone holds.
        shared_relations: Those that at least two clients hold.
    """

    relations: int
    entities: int
    triples: dict[str, int]
    shared_entities: int
    shared_entities_part: float
    own_entities: int
    shared_relations: int


class Statistics(Origin):
    """What `statistics.json` holds.

    Attributes:
        version: Of Tripleherd.
        clients: By name.
        total: Of all clients together.
        entity_overlap: How many entities two clients both hold, [clients, clients] in the order of `clients`.
    """

    version: str
    clients: dict[str, Sizes]
    total: Sizes
    entity_overlap: list[list[int]]

    @classmethod
    def of(cls, clients: Mapping[str, Parts], origin: Origin) -> "Statistics":
        """The statistics of named clients' triples."""
        entities, relations = (
            [entities_of(parts) for parts in clients.values()],
            list(map(relations_of, clients.values())),
        )
        held, used = Counter(e for own in entities for e in own), Counter(r for own in relations for r in own)
        sizes = {
            name: _sizes([parts], {e: held[e] for e in own}, {r: used[r] for r in own_relations})
            for (name, parts), own, own_relations in zip(clients.items(), entities, relations, strict=True)
        }
        return cls(
            **origin.model_dump(),
            version=version("tripleherd"),
            clients=sizes,
            total=_sizes(clients.values(), held, used),
            entity_overlap=[[len(one & other) for other in entities] for one in entities],
        )

    def table(self) -> Table:
        """A row a client; of several clients what they share, too, and one row of all together."""
        if len(self.clients) == 1:
            shown = Table("client", "relations", "entities", *SPLITS)
            for name, sizes in self.clients.items():
                shown.add_row(name, *map(str, [sizes.relations, sizes.entities, *sizes.triples.values()]))
            return shown
        shown = Table("client", "relations", "entities", "shared", "own", *SPLITS)
        rows = [*self.clients.items(), ("total", self.total)]
        for i, (name, sizes) in enumerate(rows):
            shared = f"{sizes.shared_entities} ({sizes.shared_entities_part:.0%})"
            counts = [sizes.relations, sizes.entities, shared, sizes.own_entities, *sizes.triples.values()]
            shown.add_row(name, *map(str, counts), end_section=i + 2 == len(rows))
        shown.caption = "shared: entities that another client holds too; own: that no other one holds"
        return shown


def entities_of(parts: Parts) -> set[str]:
    """The entities of a client, in any split."""
    return {entity for split in SPLITS for head, _, tail in parts[split] for entity in (head, tail)}


def relations_of(parts: Parts) -> set[str]:
    """The relations of a client, in any split."""
    return {relation for split in SPLITS for _, relation, _ in parts[split]}


def _sizes(clients: Iterable[Parts], held: Mapping[str, int], used: Mapping[str, int]) -> Sizes:
    """Sizes of clients together; `held` and `used` say of each entity and relation how many clients have it."""
    shared = sum(count > 1 for count in held.values())
    return Sizes(
        relations=len(used),
        entities=len(held),
        triples={split: sum(len(parts[split]) for parts in clients) for split in SPLITS},
        shared_entities=shared,
        shared_entities_part=shared / len(held),
        own_entities=len(held) - shared,
        shared_relations=sum(count > 1 for count in used.values()),
    )
