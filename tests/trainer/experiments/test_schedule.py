import threading
from collections import Counter

import pytest

from trainer.experiments.plan import Run
from trainer.experiments.schedule import Going, Schedule, Stopped

from .records import a_run


def nothing() -> None:
    """Nobody looks."""


class Gate:
    """Runs that go on until they are let go, and how many processes worked at once."""

    def __init__(self) -> None:
        self.open, self.lock = threading.Event(), threading.Lock()
        self.begun: list[Run] = []
        self.working = self.most = 0

    def work(self, going: Going) -> None:
        with self.lock:
            self.begun.append(going.run)
            self.working += going.run.processes
            self.most = max(self.most, self.working)
        try:
            while not self.open.wait(0.01):
                going.tick()
            if going.run.variant == "fails":
                raise ValueError("on purpose")
        finally:
            with self.lock:
                self.working -= going.run.processes


def test_no_more_processes_work_than_there_are_jobs_and_a_small_run_fills_the_gap() -> None:
    gate, ended = Gate(), Counter[str]()
    big, small = [a_run(f"b{i}") for i in range(3)], [a_run(f"s{i}", kind="collection") for i in range(3)]
    schedule = Schedule([*big, *small], 3, gate.work)

    def look() -> None:
        if len(gate.begun) == 2:
            gate.open.set()

    schedule.run(lambda going, error: ended.update([going.run.variant]), look)
    assert gate.begun[:2] == [big[0], small[0]] or gate.begun[:2] == [small[0], big[0]]
    assert gate.most == 3
    assert ended == Counter(run.variant for run in [*big, *small])


def test_a_run_with_more_processes_than_jobs_goes_alone() -> None:
    gate = Gate()
    gate.open.set()
    Schedule([a_run("a"), a_run("b")], 1, gate.work).run(lambda going, error: None, nothing)
    assert (len(gate.begun), gate.most) == (2, 2)


def test_a_run_that_fails_is_told_and_the_others_go_on() -> None:
    gate, errors = Gate(), {}
    gate.open.set()
    runs = [a_run("fails"), a_run("goes")]
    Schedule(runs, 2, gate.work).run(lambda going, error: errors.update({going.run.variant: error}), nothing)
    assert isinstance(errors["fails"], ValueError)
    assert errors["goes"] is None


def test_an_interruption_ends_every_run_before_it_is_raised() -> None:
    gate, ended = Gate(), []
    schedule = Schedule([a_run("a", kind="collection"), a_run("b", kind="collection"), a_run("c")], 2, gate.work)

    def look() -> None:
        if len(gate.begun) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        schedule.run(lambda going, error: ended.append(going), look)
    assert gate.working == 0
    assert [run.variant for run in schedule.waiting] == ["c"]
    assert all(isinstance(future.exception(), Stopped) for future in schedule.going)
