"""Write the reference pages that follow from the code to `docs/reference/`, or check that they are current.

Run: `python -m tools.reference` writes, `python -m tools.reference --check` exits with status 1 where they differ.
"""

import inspect
import json
import sys
from collections.abc import Iterator
from typing import Any

from typer.main import get_command

from protocol.problems import KINDS, PAGES, ProblemError
from tools.committed import ROOT, keep
from trainer.cli import app

DOCS = ROOT / "docs"
FOLDER = DOCS / "reference"
HIDDEN = ("help", "install_completion", "show_completion")


def commands() -> str:
    """Every command of `tripleherd` with its help, arguments and options."""
    top = get_command(app)
    lines = [
        "# Commands",
        "",
        "`tripleherd COMMAND --help` says the same. `tripleherd --install-completion` teaches your shell to",
        "complete commands and options. With `--json`, where a command has it, the result is JSON on standard output,",
        "and what is for people on standard error.",
        "",
        "| exit status | means |",
        "|---|---|",
        "| 0 | all went well |",
        "| 1 | a run of an experiment failed; or Tripleherd has a defect, and the trace says where |",
        "| 2 | an error that you can mend: one line says what and how, `tripleherd --verbose COMMAND` where it arose |",
        "| 130 | Ctrl-C; what was trained is kept where the command says so |",
    ]
    for name, command in _walk(top, "tripleherd"):
        lines += ["", f"## {name}", "", inspect.cleandoc(command.help or ""), "", *_parameters(command)]
    return "\n".join(lines) + "\n"


def _walk(command: Any, name: str) -> Iterator[tuple[str, Any]]:
    for part, found in getattr(command, "commands", {}).items():
        yield f"{name} {part}", found
        yield from _walk(found, f"{name} {part}")


def _parameters(command: Any) -> list[str]:
    rows = []
    for parameter in command.params:
        if parameter.name in HIDDEN:
            continue
        names = [*parameter.opts, *parameter.secondary_opts]
        said = str(parameter.name).upper() if parameter.param_type_name == "argument" else ", ".join(names)
        needed = "needed" if parameter.required else _default(parameter)
        words = " ".join((getattr(parameter, "help", None) or "").split()).replace("|", "\\|")
        variable = f" `{parameter.envvar}`" if parameter.envvar else ""
        rows.append(f"| `{said}`{variable} | {needed} | {words} |")
    return ["| option, variable | default | |", "|---|---|---|", *rows] if rows else []


def _default(parameter: Any) -> str:
    value = parameter.default
    return "" if value is None or value is False or callable(value) else f"`{value}`"


def problems() -> str:
    """Every kind of problem: what it means, and how to mend it."""
    kinds: tuple[type[ProblemError], ...] = (*KINDS.values(), ProblemError)
    lines = [
        "# Problems",
        "",
        "Whatever a service refuses is a problem document (RFC 9457), `application/problem+json`. Its `type` is the",
        f"path of the kind's page at the service itself, as `{PAGES}/busy`; `detail` says what went wrong this time",
        "and the way out; `errors` names the fields at fault; the reply's `X-Request-Id` is in the service's log too.",
    ]
    for kind in sorted(kinds, key=lambda each: each.status):
        lines += [
            "",
            f"## {kind.kind}",
            "",
            f"{kind.status}: {kind.title}.",
            "",
            kind.meaning(),
            "",
            f"**How to mend it.** {kind.mend}",
        ]
    return "\n".join(lines) + "\n"


def routes() -> str:
    """Every route of both services, from the committed OpenAPI documents."""
    lines = [
        "# Routes",
        "",
        "The services' own pages, at `/docs`, show bodies and examples and let you try them; `docs/openapi/` has the",
        "same as files.",
    ]
    for service in ("scorer", "coordinator"):
        document = json.loads((DOCS / "openapi" / f"{service}.json").read_text(encoding="utf-8"))
        lines += ["", f"## {service.capitalize()}", "", "| route | does | answers |", "|---|---|---|"]
        for path, operations in document["paths"].items():
            lines += [_route(method, path, operation) for method, operation in operations.items()]
    return "\n".join(lines) + "\n"


def _route(method: str, path: str, operation: dict[str, Any]) -> str:
    said = " ".join(operation["description"].split()).replace("|", "\\|")
    summary, statuses = operation["summary"].rstrip("?"), ", ".join(operation["responses"])
    return f"| `{method.upper()} {path}` | **{summary}.** {said} | {statuses} |"


PAGES_MADE = {"commands.md": commands, "problems.md": problems, "routes.md": routes}


def main() -> int:
    """Write or check; returns the exit status."""
    return keep({FOLDER / name: page() for name, page in PAGES_MADE.items()}, "make reference")


if __name__ == "__main__":
    sys.exit(main())
