"""Makes the page of what it shows. Everything that somebody else wrote is text: templates escape all they are given."""

from datetime import datetime

from jinja2 import Environment, PackageLoader, StrictUndefined

from protocol.watching import WatcherRole
from services.coordinator.page import form
from services.coordinator.page.overview import Overview
from services.coordinator.page.scorer import ScorerState

SECURITY = {
    # Nothing but this service's own files and replies, and no page around this one.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}
"""Headers of the page."""


def _score(number: float | None) -> str:
    return "-" if number is None else f"{number:.3f}"


def _iso(moment: datetime) -> str:
    return moment.isoformat(timespec="seconds")


def _words(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"


_environment = Environment(
    loader=PackageLoader("services.coordinator.page"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_environment.filters |= {"score": _score, "iso": _iso, "moment": _words}


def sign_in() -> str:
    """The page for who has not shown a token."""
    return _environment.get_template("sign_in.html").render()


def gone(detail: str) -> str:
    """The page for who asks for a training that is not there."""
    return _environment.get_template("gone.html").render(detail=detail)


def page(role: WatcherRole, shown: Overview, asked: str | None, scorer: ScorerState | None) -> str:
    """The page for an operator or a viewer, who `asked` for a training or for whichever is the latest."""
    starting = role == "operator" and shown.view.phase in ("idle", "finished")
    return _environment.get_template("page.html").render(
        role=role,
        shown=shown,
        asked=asked,
        scorer=scorer,
        fields=form.fields() if starting else (),
        choices=form.choices(shown.trainings) if starting else [],
    )
