"""Write the services' OpenAPI documents to `docs/openapi/`, or check that the committed ones are current.

Run: `python -m tools.openapi` writes, `python -m tools.openapi --check` exits with status 1 where they differ.
"""

import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from fastapi import FastAPI

from services.coordinator.app import build_app
from services.coordinator.settings import CoordinatorSettings
from services.coordinator.store.store import open_store
from services.scorer.app import create_app
from services.scorer.settings import Settings
from tools.committed import ROOT, keep

FOLDER = ROOT / "docs" / "openapi"


def coordinator() -> FastAPI:
    """The coordinator's application on a folder that is gone afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        tokens = {"operator_token": "o" * 32, "invitation_token": "i" * 32}
        settings = CoordinatorSettings.model_validate({"data_dir": folder, **tokens})
        store = open_store(settings.data_dir)
        app = build_app(settings, store)
        store.database.close()
        return app


def documents() -> Iterator[tuple[Path, str]]:
    """Each service's file and what it should hold. Nothing is served: the page does not depend on settings."""
    for name, app in (("scorer", create_app(Settings())), ("coordinator", coordinator())):
        yield FOLDER / f"{name}.json", json.dumps(app.openapi(), indent=1, ensure_ascii=False) + "\n"


def main() -> int:
    """Write or check; returns the exit status."""
    return keep(dict(documents()), "make openapi")


if __name__ == "__main__":
    sys.exit(main())
