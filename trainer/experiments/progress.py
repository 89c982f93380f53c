"""What the user sees while an experiment runs: how many runs are done, what each one says, and the time left."""

import re
import time
from dataclasses import dataclass, field

from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from trainer.experiments.plan import Run
from trainer.experiments.schedule import Going, Schedule
from trainer.output import print_line

LINE_SECONDS = 10.0
"""Between two progress lines where the output is no terminal."""
_SAID = re.compile(r"(isolation: )?(?:round|epoch) (\d+) of at most (\d+)")

_Alike = tuple[str, str, str]


def _alike(run: Run) -> _Alike:
    """Runs that take about the same time: they differ in the seed alone."""
    return (run.data, run.variant, run.kind)


def said(going: Going) -> str:
    """What the first process that still works said last."""
    working = [child for child in going.children if child.process.poll() is None and child.name != "coordinator"]
    return working[0].last_line() if working else ""


def part_done(run: Run, line: str) -> float:
    """The part of a run that is over by what a process said last, in [0, 1]; it may end earlier by its patience.

    A federated client trains a model alone after the last round, which takes about as long as the rounds.
    """
    match = _SAID.search(line)
    if match is None:
        return 0.0
    part = int(match[2]) / int(match[3])
    if run.kind != "federated":
        return part
    return (part + 1 if match[1] else part) / 2


@dataclass
class Pace:
    """How long runs take, by those that are done or going on."""

    _seconds: dict[_Alike, list[float]] = field(default_factory=dict)

    def took(self, run: Run, seconds: float) -> None:
        """A run is done."""
        self._seconds.setdefault(_alike(run), []).append(seconds)

    def left(self, waiting: list[Run], going: list[Going]) -> float | None:
        """Seconds until all are done, if as many as now go on at the same time; None where nothing is known."""
        expected = {alike: sum(seconds) / len(seconds) for alike, seconds in self._seconds.items()}
        for each in going:
            done = part_done(each.run, said(each))
            if done and _alike(each.run) not in expected:
                expected[_alike(each.run)] = each.seconds / done
        if not expected:
            return None
        usual = sum(expected.values()) / len(expected)
        seconds = sum(expected.get(_alike(run), usual) for run in waiting)
        seconds += sum(max(0.0, expected.get(_alike(each.run), usual) - each.seconds) for each in going)
        return seconds / max(1, len(going))


@dataclass
class Progress:
    """A live display on terminals, lines elsewhere."""

    console: Console
    schedule: Schedule
    total: int
    pace: Pace
    failed: int = 0
    _started: float = field(default_factory=time.monotonic)
    _last_line: float = 0.0

    def __rich__(self) -> Group:
        table = Table.grid(padding=(0, 2))
        for going in list(self.schedule.going.values()):
            name = Text(going.run.label, style="cyan")
            table.add_row(name, f"{going.seconds:.0f} s", Text(said(going), overflow="ellipsis", no_wrap=True))
        return Group(Text(self._head(), style="bold"), table)

    def look(self) -> None:
        """Print a line now and then where a live display is impossible."""
        now = time.monotonic()
        if not self.console.is_terminal and now - self._last_line >= LINE_SECONDS:
            self._last_line = now
            going = "; ".join(f"{each.run.label}: {said(each)}" for each in self.schedule.going.values())
            self.say(f"{self._head()}  {going}")

    def say(self, text: str) -> None:
        """Print a line that stays."""
        print_line(self.console, text)

    def _head(self) -> str:
        going, waiting = list(self.schedule.going.values()), list(self.schedule.waiting)
        done = self.total - len(going) - len(waiting) - self.failed
        words = [f"{time.monotonic() - self._started:4.0f} s  {done} of {self.total} runs done"]
        words += [f"{self.failed} failed"] if self.failed else []
        left = self.pace.left(waiting, going)
        words += [f"{_time(left)} left at most"] if left is not None else []
        return ", ".join(words)


def _time(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
