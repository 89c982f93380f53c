"""Holds the committed API pages to what tests see: an answer with a status that its route does not declare fails."""

import json
import re
from functools import cache
from pathlib import Path

import httpx

PAGES = Path(__file__).parents[1] / "docs" / "openapi"


def declared(service: str) -> dict[str, list[object]]:
    """Event hooks of an `httpx.Client` that calls the service."""

    def look(response: httpx.Response) -> None:
        request = response.request
        for pattern, methods in _routes(service):
            if pattern.fullmatch(request.url.path) and (statuses := methods.get(request.method.lower())):
                answer = f"{request.method} {request.url.path} answered {response.status_code}"
                assert str(response.status_code) in statuses, f"{answer}, which its page does not declare"
                return
        # No route, or none for this method.
        assert response.status_code in (200, 404, 405) or response.status_code >= 500, (
            request.url,
            response.status_code,
        )

    return {"response": [look]}


@cache
def _routes(service: str) -> list[tuple[re.Pattern[str], dict[str, set[str]]]]:
    """Patterns of paths, with the statuses that each method declares; fixed paths before those with parameters."""
    paths = json.loads((PAGES / f"{service}.json").read_text(encoding="utf-8"))["paths"]
    return [
        (
            re.compile(re.sub(r"\\{\w+\\}", "[^/]+", re.escape(path))),
            {m: set(o["responses"]) for m, o in methods.items()},
        )
        for path, methods in sorted(paths.items(), key=lambda item: item[0].count("{"))
    ]
