"""The command line as a user starts it."""

import os
import subprocess
import sys
from pathlib import Path

from .support import Run

ROOT = Path(__file__).parents[2]
QUICK = ("--rounds", "4", "--evaluate-every", "2", "--dim", "16", "--local-epochs", "5", "--learning-rate", "0.05")
"""Options of a training that takes a second."""


def tripleherd(*arguments: str | Path) -> Run:
    """The command line as a user starts it; nothing is inherited that would set an option."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("TRAINER_", "FORCE_COLOR"))}
    environment |= {"PYTHONPATH": str(ROOT), "COLUMNS": "120", "NO_COLOR": "1", "TERM": "dumb", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "trainer", *map(str, arguments)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)


def well(*arguments: str | Path) -> str:
    run = tripleherd(*arguments)
    assert run.returncode == 0, run.stderr
    return run.stdout
