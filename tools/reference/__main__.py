"""Write the reference pages that follow from the code to `docs/reference/`, or check that they are current.

Run: `python -m tools.reference` writes, `python -m tools.reference --check` exits with status 1 where they differ.
"""

import sys

from tools.committed import ROOT, keep
from tools.reference.commands import commands
from tools.reference.problems import problems
from tools.reference.routes import routes
from tools.reference.settings import settings

FOLDER = ROOT / "docs" / "reference"
PAGES = {"commands.md": commands, "problems.md": problems, "routes.md": routes, "settings.md": settings}


def main() -> int:
    """Write or check; returns the exit status."""
    return keep({FOLDER / name: page() for name, page in PAGES.items()}, "make reference")


if __name__ == "__main__":
    sys.exit(main())
