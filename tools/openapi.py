"""Write the services' OpenAPI documents to `docs/openapi/`, or check that the committed ones are current.

Run: `python -m tools.openapi` writes, `python -m tools.openapi --check` exits with status 1 where they differ.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

from services.coordinator.app import create_app as create_coordinator
from services.scorer.app import create_app as create_scorer

FOLDER = Path(__file__).parent.parent / "docs" / "openapi"


def documents() -> Iterator[tuple[Path, str]]:
    """Each service's file and what it should hold. Nothing is started: the page does not depend on settings."""
    for name, create_app in (("scorer", create_scorer), ("coordinator", create_coordinator)):
        yield FOLDER / f"{name}.json", json.dumps(create_app().openapi(), indent=1, ensure_ascii=False) + "\n"


def main() -> int:
    """Write or check; returns the exit status."""
    check = sys.argv[1:] == ["--check"]
    stale = [file for file, text in documents() if not file.is_file() or file.read_text(encoding="utf-8") != text]
    if check:
        for file in stale:
            print(f"{file.relative_to(FOLDER.parent.parent)} is not current; run: make openapi")
        return int(bool(stale))
    FOLDER.mkdir(parents=True, exist_ok=True)
    for file, text in documents():
        file.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
