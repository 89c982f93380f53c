import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from rich.console import Console

from trainer.experiments.progress import Pace, Progress, part_done, said
from trainer.experiments.schedule import Going, Schedule
from trainer.processes import Child

from .records import a_run


@pytest.mark.parametrize(
    ("kind", "line", "part"),
    [
        ("federated", "round 10 of at most 40: loss 2.1, best validation MRR 0.311", 1 / 8),
        ("federated", "isolation: epoch 30 of at most 120, validation MRR 0.5, best 0.5", 5 / 8),
        ("collection", "epoch 30 of at most 120, validation MRR 0.5, best 0.5", 1 / 4),
        ("collection", "data: 135 entities, 46 relations", 0.0),
    ],
)
def test_what_a_process_says_tells_how_far_it_is(kind, line: str, part: float) -> None:
    assert part_done(a_run(kind=kind), line) == pytest.approx(part)


def going(folder: Path, run, line: str, seconds: float) -> Going:
    """A run with a coordinator, a client that is done and one that works and has said something."""
    children = []
    for name, sleeps in (("coordinator", 60), ("client_0", 0), ("client_1", 60)):
        log = folder / f"{name}.log"
        log.write_text(f"{line}\n" if name == "client_1" else "something else\n")
        process = subprocess.Popen([sys.executable, "-c", f"import time; time.sleep({sleeps})"])
        children.append(Child(name, log, process))
    children[1].process.wait()
    return Going(run, threading.Event(), time.monotonic() - seconds, children)


@pytest.fixture
def one(tmp_path: Path):
    made = going(tmp_path, a_run("t", 1), "round 10 of at most 40: loss 2", 50_000)
    yield made
    for child in made.children:
        child.process.kill()
        child.process.wait()


def test_the_line_is_that_of_a_client_that_still_works(one: Going) -> None:
    assert said(one) == "round 10 of at most 40: loss 2"


def test_nothing_is_known_before_anything_is_said() -> None:
    assert Pace().left([a_run()], []) is None


def test_runs_are_expected_to_take_as_long_as_those_that_differ_in_the_seed(one: Going) -> None:
    pace = Pace()
    pace.took(a_run("t", 0), 70_000)
    pace.took(a_run("t", 2), 90_000)
    assert pace.left([a_run("t", 3)], [one]) == pytest.approx(80_000 + 30_000, abs=200)


def test_without_such_a_run_its_own_rounds_tell(one: Going) -> None:
    # An eighth took 50,000 s; the other variant is expected to take as long.
    assert Pace().left([a_run("u", 1)], [one]) == pytest.approx(350_000 + 400_000, rel=0.01)


def test_the_display_and_the_lines_say_how_many_runs_are_done(one: Going, capsys: pytest.CaptureFixture[str]) -> None:
    schedule = Schedule([a_run("u", 1)], 2, lambda going: None)
    schedule.going = {threading.Event(): one}  # type: ignore[dict-item]  # a key is all that it has to be
    progress = Progress(Console(width=150), schedule, 4, Pace(), failed=1)
    progress.look()
    line = capsys.readouterr().out
    Console(width=150).print(progress)
    for shown in (line, capsys.readouterr().out):
        assert "1 of 4 runs done, 1 failed" in shown
        assert "left" in shown
        assert "umls t seed 1 federated" in shown
        assert "round 10 of at most 40" in shown
    progress.look()
    assert capsys.readouterr().out == ""  # not again so soon
