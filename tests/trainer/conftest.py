import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from trainer.cli import main
from trainer.dataset import read_dataset
from trainer.graph import Graph

from .command_line import QUICK, well
from .support import Run, random_graph

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def umls() -> Graph:
    return read_dataset("umls")


@pytest.fixture(scope="session")
def small() -> Graph:
    return random_graph(0)


@pytest.fixture(scope="session")
def nations(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """PyKEEN's `nations`, dealt to two clients."""
    folder = tmp_path_factory.mktemp("nations") / "data"
    shown = well("split", "nations", "--clients", "2", "--seed", "3", "--out", folder)
    assert "client_0" in shown
    assert "client_1" in shown
    return folder


@pytest.fixture(scope="session")
def nations_model(nations: Path) -> Path:
    """A model of one client."""
    out = nations.parent / "model"
    shown = well("train", nations / "client_0", "--interaction", "distmult", "--out", out, *QUICK)
    assert "isolation" in shown
    return out


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Callable[..., Run]]:
    """`tripleherd` without a process of its own, which is slow to start."""
    handler = signal.getsignal(signal.SIGTERM)
    monkeypatch.setenv("COLUMNS", "120")
    for name in [name for name in os.environ if name.startswith(("TRAINER_", "FORCE_COLOR"))]:
        monkeypatch.delenv(name)

    def run(*arguments: str | Path) -> Run:
        monkeypatch.setattr(sys, "argv", ["tripleherd", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            main()
        return subprocess.CompletedProcess(arguments, int(end.value.code or 0), *capsys.readouterr())

    yield run
    signal.signal(signal.SIGTERM, handler)
