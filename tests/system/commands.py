"""What runs on this machine, seen by its command lines."""

import subprocess
import time
from pathlib import Path
from typing import Any

import psutil


def commands_mentioning(text: str) -> list[str]:
    """Command lines of running processes that mention a text."""
    processes = psutil.process_iter(["cmdline", "status"])
    running = [process.info["cmdline"] or [] for process in processes if process.info["status"] != "zombie"]
    return [line for line in map(" ".join, running) if text in line]


def wait_for_a_client(process: "subprocess.Popen[Any]", out: Path) -> None:
    """Until a process has started a client that works below a folder."""
    deadline = time.monotonic() + 100
    while not any(" join " in line for line in commands_mentioning(str(out))):
        assert process.poll() is None
        assert time.monotonic() < deadline, "no client was started"
        time.sleep(0.05)
