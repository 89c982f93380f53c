import os
import signal
import subprocess
import sys
import time
from ast import literal_eval
from pathlib import Path

import psutil
import pytest

from trainer.processes import Processes, ProcessFailed, free_port

PARENT = """
import sys, time
from pathlib import Path
from trainer.processes import Processes
with Processes(Path(sys.argv[1])) as processes:
    children = [processes.start(str(i), ["tests.trainer.sleeper", "a", "b"]) for i in range(2)]
    print(*(child.process.pid for child in children), flush=True)
    time.sleep(60)
"""


def nothing() -> None:
    """No progress to show."""


def started(child_log: Path) -> list[str]:
    deadline = time.monotonic() + 30
    while not (lines := child_log.read_text().splitlines()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return lines


def test_a_child_sees_its_own_arguments_as_of_python_m(tmp_path: Path) -> None:
    with Processes(tmp_path) as processes:
        child = processes.start("one", ["tests.trainer.sleeper", "a", "b"])
        assert started(child.log) == ["__main__ sleeper.py a b"]
        assert child.process.poll() is None
    assert child.process.returncode == -signal.SIGTERM


def test_children_end_where_their_parent_is_killed(tmp_path: Path) -> None:
    command = [sys.executable, "-c", PARENT, str(tmp_path)]
    parent = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    with parent.stdout:
        children = [psutil.Process(int(pid)) for pid in parent.stdout.readline().split()]
    assert len(children) == 2
    for name in ("0", "1"):
        started(tmp_path / f"{name}.log")
    parent.kill()
    parent.wait()
    assert psutil.wait_procs(children, timeout=20)[1] == []


def test_a_failed_child_is_told_with_the_end_of_its_log(tmp_path: Path) -> None:
    with Processes(tmp_path) as processes:
        child = processes.start("one", ["tests.trainer.no_such_module"])
        with pytest.raises(ProcessFailed, match=r"(?s)one ended with status 1:.*No module named"):
            processes.wait_all([child], nothing)


def test_a_child_does_not_see_settings_that_its_parent_s_user_has_exported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("COORDINATOR_DATABASE_URL", "SCORER_MODEL", "TRAINER_TEXTS", "HF_HOME"):
        monkeypatch.setenv(name, "exported")
    ours = "{name: value for name, value in os.environ.items() if name.partition('_')[0] in %r}"
    setup = f"import os; print({ours % (('COORDINATOR', 'SCORER', 'TRAINER', 'HF'),)})"
    with Processes(tmp_path) as processes:
        child = processes.start("one", ["timeit", "-n1", "-r1", "-s", setup], {"SCORER_WORKERS": "2"})
        assert literal_eval(started(child.log)[0]).items() >= {"SCORER_WORKERS": "2", "HF_HOME": "exported"}.items()
        assert "exported" not in [
            value for name, value in literal_eval(started(child.log)[0]).items() if name != "HF_HOME"
        ]


def test_no_port_is_given_twice() -> None:
    ports = [free_port() for _ in range(200)]
    assert len(set(ports)) == 200


def test_no_descriptor_is_left_open(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    if not before:
        pytest.skip("this system does not list a process's open files")
    for _ in range(3):
        with Processes(tmp_path) as processes:
            processes.wait_all([processes.start("one", ["timeit", "-n1", "-r1", "pass"])], nothing)
    assert len(os.listdir("/proc/self/fd")) == before
