"""The YAML file of an experiment: read safely, and refused with the line at fault."""

import re
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from trainer.experiments.schema import Experiment
from trainer.inputs import UsageError


def read_experiment(file: Path) -> Experiment:
    """The experiment that a file describes.

    Raises:
        UsageError: It cannot be read, is no YAML, or something in it is unknown, missing or out of bounds; the message
            names the line.
    """
    try:
        text = file.read_text(encoding="utf-8")
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        _refuse_repeated(file, root)
        content = yaml.safe_load(text)
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{file}: cannot be read ({error})") from error
    except yaml.MarkedYAMLError as error:
        line = f"{error.problem_mark.line + 1}:" if error.problem_mark else ""
        raise UsageError(f"{file}:{line} is not YAML: {error.problem}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # a date that is none, an alias of what it stands in
        raise UsageError(f"{file}: is not YAML ({str(error).splitlines()[0]})") from error
    if not isinstance(content, dict):
        raise UsageError(f"{file}: should hold `name`, `data` and `variants`")
    try:
        return Experiment.model_validate(content)
    except ValidationError as error:
        raise UsageError(f"{file}:{_refusal(error, root)}") from error


def _refusal(error: ValidationError, root: yaml.Node | None) -> str:
    """The first thing that is wrong, with its line."""
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    # pydantic names alternatives and keys too, which nobody wrote.
    path = [part for part in first["loc"] if not re.fullmatch(r"<.*>|\[key\]", str(part))]
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "extra_forbidden":
        message = "there is no such setting, or the experiment itself decides it"
    if first["type"] in ("model_type", "model_attributes_type", "dict_type"):
        message = "should hold settings, as `name: value`"
    return f"{_line(root, path)}: {'.'.join(map(str, path))}: {message}" if path else f" {message}"


def _refuse_repeated(file: Path, node: yaml.Node | None) -> None:
    """YAML's own reader takes the last of two equal keys and says nothing."""
    if isinstance(node, yaml.MappingNode):
        seen = set()
        for key, value in node.value:
            if (name := str(key.value)) in seen:
                raise UsageError(f"{file}:{key.start_mark.line + 1}: {name}: stands here a second time")
            seen.add(name)
            _refuse_repeated(file, value)
    elif isinstance(node, yaml.SequenceNode):
        for item in node.value:
            _refuse_repeated(file, item)


def _line(node: yaml.Node | None, path: list[Any]) -> int:
    """The line of what a path leads to, from 1; of what is nearest to it where it leads nowhere."""
    line = 1 if node is None else node.start_mark.line + 1
    for part in path:
        if isinstance(node, yaml.MappingNode):
            found = [(key, value) for key, value in node.value if key.value == str(part)]
            if not found:
                break
            line, node = found[0][0].start_mark.line + 1, found[0][1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int):
            node = node.value[part]
            line = node.start_mark.line + 1
    return line
