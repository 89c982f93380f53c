"""The page of routes, from the committed OpenAPI documents."""

import json
from typing import Any

from tools.committed import ROOT


def routes() -> str:
    """Every route of both services, from the committed OpenAPI documents."""
    lines = [
        "# Routes",
        "",
        "The services' own pages, at `/docs`, show bodies and examples and let you try them; the same as files:",
        "[scorer.json](../openapi/scorer.json), [coordinator.json](../openapi/coordinator.json).",
    ]
    for service in ("scorer", "coordinator"):
        document = json.loads((ROOT / "docs" / "openapi" / f"{service}.json").read_text(encoding="utf-8"))
        lines += ["", f"## {service.capitalize()}", "", "| route | does | answers |", "|---|---|---|"]
        for path, operations in document["paths"].items():
            lines += [_route(method, path, operation) for method, operation in operations.items()]
    return "\n".join(lines) + "\n"


def _route(method: str, path: str, operation: dict[str, Any]) -> str:
    said = " ".join(operation["description"].split()).replace("|", "\\|")
    summary, statuses = operation["summary"].rstrip("?"), ", ".join(sorted(operation["responses"]))
    return f"| `{method.upper()} {path}` | **{summary}.** {said} | {statuses} |"
