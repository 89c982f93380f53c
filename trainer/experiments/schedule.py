"""Several runs at once, as many as their processes find cores, in threads that wait for them."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field

from trainer.experiments.plan import Run
from trainer.processes import Child

LOOK_SECONDS = 0.2


class Stopped(Exception):
    """The experiment is being stopped, and this run with it."""


@dataclass
class Going:
    """A run that is going on.

    Attributes:
        run: The run.
        stop: Set where it has to end.
        started: By the monotonic clock.
        children: Its processes, as they are started.
    """

    run: Run
    stop: threading.Event
    started: float = field(default_factory=time.monotonic)
    children: list[Child] = field(default_factory=list)

    def tick(self) -> None:
        """Raises:
        Stopped: It has to end.
        """
        if self.stop.is_set():
            raise Stopped

    @property
    def seconds(self) -> float:
        """Since it was started."""
        return time.monotonic() - self.started


@dataclass
class Schedule:
    """Runs that wait and runs that go on.

    Attributes:
        waiting: In the order in which they are to begin.
        jobs: Processes that may work at the same time. A run that has more goes alone.
        work: Does a run, in a thread of its own.
    """

    waiting: list[Run]
    jobs: int
    work: Callable[[Going], None]
    going: dict[Future[None], Going] = field(default_factory=dict)

    def run(self, ended: Callable[[Going, BaseException | None], None], look: Callable[[], None]) -> None:
        """Do all runs.

        Args:
            ended: Told of each run that has ended, and its error if it failed.
            look: Called a few times a second. What it or `ended` raises, as Ctrl-C, ends all runs, and is raised once
                their processes are gone.
        """
        stop = threading.Event()
        with ThreadPoolExecutor(max_workers=self.jobs) as pool:
            try:
                while self.waiting or self.going:
                    while (run := self._next()) is not None:
                        going = Going(run, stop)
                        self.going[pool.submit(self.work, going)] = going
                    for future in wait(self.going, LOOK_SECONDS, FIRST_COMPLETED).done:
                        ended(self.going.pop(future), future.exception())
                    look()
            finally:
                stop.set()

    def _next(self) -> Run | None:
        """The first that there are cores for; any, where nothing goes on."""
        free = self.jobs - sum(going.run.processes for going in self.going.values())
        fitting = [run for run in self.waiting if run.processes <= free or not self.going]
        if not fitting:
            return None
        self.waiting.remove(fitting[0])
        return fitting[0]
