"""Prompt templates: words with the slots `{head}`, `{relation}` and `{tail}`, and how the model's answer is read.

A template is a TOML file of the name it goes by: `text`, `readouts`, and for `verdict` the two `labels`. The slot that
is asked for stands last, so that candidates share all that is before it: `state` and `likelihood` read the model where
that slot begins, `verdict` and `number` after the words that follow it.

A template's hash belongs to every result that it made: other words are another scorer.
"""

import hashlib
import json
import re
import tomllib
from functools import cached_property
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from protocol.forms import TEMPLATE_NAME
from protocol.info import TemplateInfo
from protocol.messages import HEAD, TAIL, Readout

FOLDER = Path(__file__).parent / "templates"
SLOTS = ("head", "relation", "tail")
DEFAULTS: dict[tuple[Readout, int], str] = {
    ("verdict", TAIL): "triple",
    ("verdict", HEAD): "triple_head",
    ("number", TAIL): "number",
    ("number", HEAD): "number_head",
    ("likelihood", TAIL): "tail",
    ("likelihood", HEAD): "head",
    ("state", TAIL): "query",
    ("state", HEAD): "query_head",
}
"""The template of each readout for each side."""
ASKS = {TAIL: "tail", HEAD: "head"}
"""The slot that each side asks for."""

_SLOT = re.compile(r"\{(" + "|".join(SLOTS) + r")\}")
_NAME = re.compile(TEMPLATE_NAME)

Label = Annotated[str, Field(min_length=1, max_length=64)]


class BadTemplate(Exception):
    """A template cannot be used; the message names its file and says the way out."""


class Template(BaseModel):
    """One prompt template.

    Attributes:
        text: The prompt, with each slot once.
        readouts: How its answer may be read.
        labels: The answers that `verdict` compares, for true and for false; single tokens of the model's tokenizer.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    text: str = Field(min_length=1, max_length=10_000)
    readouts: list[Readout] = Field(min_length=1)
    labels: tuple[Label, Label] = ("yes", "no")

    @property
    def parts(self) -> list[str]:
        """Words (perhaps none) at even places, a slot's name at odd ones; the words after the last slot end it."""
        return _SLOT.split(self.text.strip())

    @property
    def asks(self) -> str:
        """The slot that is asked for."""
        return self.parts[-2]

    @cached_property
    def hash(self) -> str:
        """SHA-256 of the text and the labels, hexadecimal."""
        return hashlib.sha256(json.dumps([self.text.strip(), *self.labels]).encode()).hexdigest()

    @property
    def info(self) -> TemplateInfo:
        """What `GET /info` says of it."""
        return TemplateInfo(
            text=self.text.strip(), hash=self.hash, asks=self.asks, readouts=self.readouts, labels=list(self.labels)
        )

    @model_validator(mode="after")
    def _usable(self) -> "Template":
        found = self.parts[1::2]
        for slot in SLOTS:
            if found.count(slot) != 1:
                raise ValueError(f"text: holds {{{slot}}} {found.count(slot)} times; each slot stands in it once")
        if {"verdict", "number"} & set(self.readouts) and not self.parts[-1].strip():
            raise ValueError("text: after the last slot, words must ask for the answer of verdict or number")
        if "state" in self.readouts and self.asks == "relation":
            raise ValueError("text: for the readout state, the head or the tail stands last")
        if self.labels[0] == self.labels[1]:
            raise ValueError("labels: the two are equal")
        return self


def load(path: Path | None = None) -> dict[str, Template]:
    """The templates that ship, and those of a file or of a folder's *.toml files, by name.

    Raises:
        BadTemplate: One of them cannot be read or used, or has the name of one that ships.
    """
    templates = {file.stem: _read(file) for file in sorted(FOLDER.glob("*.toml"))}
    for file in _files(path) if path else []:
        if file.stem in templates:
            raise BadTemplate(f"{file}: there is a template {file.stem!r} already; give the file another name")
        if not _NAME.fullmatch(file.stem):
            raise BadTemplate(f"{file}: name the file with lower-case letters, digits, `_` and `-`, a letter first")
        templates[file.stem] = _read(file)
    return templates


def is_shipped(name: str) -> bool:
    """Whether a template comes with the scorer."""
    return (FOLDER / f"{name}.toml").is_file()


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise BadTemplate(f"{path}: no such file or folder")
    if files := sorted(path.glob("*.toml")):
        return files
    raise BadTemplate(f"{path}: no *.toml file in it")


def _read(file: Path) -> Template:
    try:
        return Template.model_validate(tomllib.loads(file.read_text(encoding="utf-8")))
    except ValidationError as error:
        found = error.errors(include_url=False, include_context=False)[0]
        message = found["msg"].removeprefix("Value error, ")
        raise BadTemplate(f"{file}: {': '.join([*map(str, found['loc']), message])}") from error
    except (OSError, ValueError) as error:
        raise BadTemplate(f"{file}: cannot be read as TOML: {error}") from error
