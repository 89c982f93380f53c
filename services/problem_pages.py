"""A page of each kind of problem at the service itself: the `type` of a problem document leads there."""

import html
import re
from enum import StrEnum
from typing import Annotated

from fastapi import APIRouter, Path
from fastapi.responses import HTMLResponse

from protocol.problems import KINDS, PAGES, InvalidRequest, ProblemError
from services.openapi import problems

_ALL: tuple[type[ProblemError], ...] = (ProblemError, *KINDS.values())
_BY_NAME = {kind.kind: kind for kind in _ALL}
Kind = StrEnum("Kind", [(name.replace("-", "_"), name) for name in _BY_NAME])  # type: ignore[misc]  # made of the classes

router = APIRouter()


@router.get(
    f"{PAGES}/{{kind}}",
    summary="What a kind of problem means",
    responses=problems(InvalidRequest),
    response_class=HTMLResponse,
)
async def problem_page(
    kind: Annotated[Kind, Path(description="The last part of a problem document's `type`.")],
) -> HTMLResponse:
    """What problems of a kind are, and how to mend them: where the `type` of a problem document leads."""
    return HTMLResponse(_page(_BY_NAME[kind]), headers={"Content-Security-Policy": "default-src 'none'"})


def _page(kind: type[ProblemError]) -> str:
    title, meaning, mend = (_marked(text) for text in (kind.title, kind.meaning(), kind.mend))
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f"<h1>{kind.status}: {title}</h1><p>{meaning}</p><h2>How to mend it</h2><p>{mend}</p></html>"
    )


def _marked(text: str) -> str:
    return re.sub("`(.+?)`", r"<code>\1</code>", html.escape(text, quote=False))
