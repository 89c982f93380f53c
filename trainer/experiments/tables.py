"""The tables of an experiment: both sides, tails only as FedE publishes, and each client's."""

from collections.abc import Callable, Sequence

from protocol.rounds import Metrics, SideName
from trainer.experiments.means import Done, Group, Mean, by_data, groups
from trainer.experiments.sheets import Cell, Sheet
from trainer.results import COLUMNS, ties

_PROTOCOL = (
    "Test triples; filtered, realistic ranks (ties share their mean position) among the entities of each client's "
    "training graph, with all known triples as filter"
)
_WEIGHTED = "clients weighted by their test triples"
_SIDES: dict[SideName, str] = {"both": "ranks of heads and of tails", "tail": "ranks of tails alone, as FedE publishes"}
_METRICS = tuple(COLUMNS.values())


def sheets(name: str, done: Done) -> list[Sheet]:
    """All tables of what is done."""
    found = groups(done)
    return [_by_mode(name, found, "both"), _by_mode(name, found, "tail"), _by_client(name, found)]


def _by_mode(name: str, found: list[Group], side: SideName) -> Sheet:
    sections = []
    for of_data in by_data(found).values():
        means = [_means(group.metrics(side)) for group in of_data]
        cells = _marked(means)
        heads = [[Cell(g.data), Cell(g.variant), Cell(g.mode), Cell(str(len(g.seeds)))] for g in of_data]
        sections.append([head + row for head, row in zip(heads, cells, strict=True)])
    gaps = ties(metrics for group in found for metrics in group.metrics(side)).replace("\n", " ")
    caption = f"{name}: {_PROTOCOL}; {_SIDES[side]}; {_WEIGHTED}. {_SPREAD} Bold: best of a data set.{gaps}"
    header = ("data", "variant", "mode", "seeds", *_METRICS)
    return Sheet(f"{name}-{side}", caption, header, 3, sections)


_SPREAD = "Mean ± sample standard deviation over seeds."


def _by_client(name: str, found: list[Group]) -> Sheet:
    sections = []
    for group in found:
        rows = []
        for client in group.clients():
            results = group.of_client(client)
            row = [Cell(text) for text in (group.data, group.variant, group.mode, client)]
            row += [Cell(str(len(results))), Cell(f"{Mean.of(r.triples for r in results).value:.0f}")]
            rows.append(row + [Cell(_shown(m)) for m in _means([r.sides["both"] for r in results])])
        sections.append(rows)
    caption = f"{name}, by client: {_PROTOCOL}; {_SIDES['both']}. {_SPREAD} Triples: ranked, mean over seeds."
    header = ("data", "variant", "mode", "client", "seeds", "triples", *_METRICS)
    return Sheet(f"{name}-clients", caption, header, 4, sections)


def _means(metrics: Sequence[Metrics]) -> list[Mean]:
    """Of each column, over seeds."""
    dumped = [each.model_dump() for each in metrics]
    return [Mean.of(values[column] for values in dumped) for column in COLUMNS]


def _marked(means: list[list[Mean]]) -> list[list[Cell]]:
    """Cells, the best of each column in bold; all that show the same number are."""
    best = [max(f"{mean.value:.3f}" for mean in column) for column in zip(*means, strict=True)]
    return [[Cell(_shown(m), f"{m.value:.3f}" == b) for m, b in zip(row, best, strict=True)] for row in means]


def _shown(mean: Mean) -> str:
    return f"{mean.value:.3f}" + (f" ± {mean.deviation:.3f}" if mean.deviation is not None else "")


def document(found: list[Sheet], render: Callable[[Sheet], str]) -> bytes:
    """All tables in one file."""
    return "\n".join(map(render, found)).encode()
