"""Runs of all seeds together: means and standard deviations of a metric, by data set, variant and mode."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

from protocol.rounds import Metrics, Mode, SideName
from trainer.experiments.plan import Run
from trainer.experiments.record import Record
from trainer.results import MODES, ClientResult, means

Done = list[tuple[Run, Record]]


@dataclass(frozen=True)
class Group:
    """What is averaged over seeds: each client's rows of one data set, variant and mode, by seed."""

    data: str
    variant: str
    mode: Mode
    seeds: tuple[list[ClientResult], ...]

    def metrics(self, side: SideName) -> list[Metrics]:
        """Of each seed the mean over clients, weighted by their test triples."""
        return [means(rows, side)["weighted"] for rows in self.seeds]

    def clients(self) -> list[str]:
        """Their names, in order."""
        names = {row.client for rows in self.seeds for row in rows}
        return sorted(names, key=lambda name: (len(name), name))

    def of_client(self, client: str) -> list[ClientResult]:
        """A client's rows, of those seeds that have one."""
        return [row for rows in self.seeds for row in rows if row.client == client]


@dataclass(frozen=True)
class Mean:
    """A mean over n values, and their sample standard deviation, which one value does not have."""

    value: float
    deviation: float | None
    n: int

    @classmethod
    def of(cls, values: Iterable[float]) -> "Mean":
        """Of at least one value."""
        values = list(values)
        mean = math.fsum(values) / len(values)
        squares = math.fsum((value - mean) ** 2 for value in values)
        return cls(mean, math.sqrt(squares / (len(values) - 1)) if len(values) > 1 else None, len(values))


def groups(done: Done) -> list[Group]:
    """What there is to show: data sets and variants in the order of the plan, and modes in that of every table."""
    found: dict[tuple[str, str, Mode], list[list[ClientResult]]] = {}
    for run, record in done:
        for mode in run.modes:
            rows = [row for row in record.results if row.mode == mode]
            if rows:
                found.setdefault((run.data, run.variant, mode), []).append(rows)
    order = _order(run.data for run, _ in done), _order(run.variant for run, _ in done)

    def place(group: Group) -> tuple[int, int, int]:
        return order[0][group.data], order[1][group.variant], MODES.index(group.mode)

    return sorted((Group(*key, tuple(seeds)) for key, seeds in found.items()), key=place)


def _order(names: Iterable[str]) -> dict[str, int]:
    return {name: number for number, name in enumerate(dict.fromkeys(names))}


def by_data(found: list[Group]) -> dict[str, list[Group]]:
    """The groups of each data set."""
    return {data: [group for group in found if group.data == data] for data in _order(g.data for g in found)}
