"""The page of commands: what `--help` says of each, in one place."""

import inspect
from collections.abc import Iterator
from typing import Any

from typer import Context
from typer.main import get_command

from trainer.cli import app

_APP = get_command(app)
_CONTEXT = Context(_APP)
HIDDEN = ("help", "install_completion", "show_completion")


def commands() -> str:
    """Every command of `tripleherd` with its help, arguments and options."""
    lines = [
        "# Commands",
        "",
        "`tripleherd COMMAND --help` says the same. `tripleherd --install-completion` teaches your shell to",
        "complete commands and options. With `--json` the result is JSON on standard output,",
        "and what is for people on standard error.",
        "",
        "| exit status | means |",
        "|---|---|",
        "| 0 | all went well |",
        "| 1 | a run of an experiment failed; or Tripleherd has a defect, and the trace says where |",
        "| 2 | an error that you can mend: one line says what and how, `tripleherd --verbose COMMAND` where it arose |",
        "| 130 | Ctrl-C; what was trained is kept where the command says so |",
    ]
    for name, command in walk(_APP, "tripleherd"):
        lines += ["", f"## {name}", "", inspect.cleandoc(command.help or ""), "", *_parameters(command)]
    return "\n".join(lines) + "\n"


def walk(command: Any, name: str) -> Iterator[tuple[str, Any]]:
    """Every command below one, with its whole name."""
    for part, found in getattr(command, "commands", {}).items():
        yield f"{name} {part}", found
        yield from walk(found, f"{name} {part}")


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
        rows.append(f"| `{said}`{variable} | {_taken(parameter)} | {needed} | {words} |")
    return ["| option, variable | takes | default | |", "|---|---|---|---|", *rows] if rows else []


def _taken(parameter: Any) -> str:
    """The values that are allowed, or of what kind they are."""
    if getattr(parameter, "is_flag", False):
        return ""
    kind = parameter.display_type(_CONTEXT).removeprefix("<").removesuffix(">").removeprefix("list[").removesuffix("]")
    if kind == "Any":  # a parser of our own, of which the option's help tells
        return ""
    if "|" in kind:
        return ", ".join(f"`{each}`" for each in kind.split("|"))
    about = parameter.type_descriptor.parameter_info
    bounds = [f"{word} {bound:g}" for word, bound in (("from", about.min), ("to", about.max)) if bound is not None]
    return " ".join([kind.removesuffix(" range"), *bounds])


def _default(parameter: Any) -> str:
    value = parameter.default
    return "" if value is None or value is False or callable(value) else f"`{value}`"
