"""Committed files that follow from the code: written, or checked to be what the code would write."""

import sys
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).parent.parent


def keep(made: Mapping[Path, str], command: str) -> int:
    """Write files, or with `--check` on the command line say which differ; returns the exit status.

    Args:
        made: What each file should hold.
        command: What brings them up to date, for who reads that one does not.
    """
    stale = [file for file, text in made.items() if not file.is_file() or file.read_text(encoding="utf-8") != text]
    if sys.argv[1:] == ["--check"]:
        for file in stale:
            print(f"{file.relative_to(ROOT)} is not current; run: {command}")
        return int(bool(stale))
    for file, text in made.items():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    return 0
