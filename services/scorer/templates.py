"""Prompt templates: words with the slots `{head}`, `{relation}` and `{tail}`, shipped as text files.

A template's hash belongs to every result that it made: other words are another scorer.
"""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from protocol.scoring import HEAD, TAIL

FOLDER = Path(__file__).parent / "templates"
SLOTS = ("head", "relation", "tail")
READOUTS = {"triple": "verdict", "tail": "state", "head": "state"}
"""The shipped templates, and how their answer is read."""
SIDES = {TAIL: "tail", HEAD: "head"}
"""The template that asks for each side."""

_SLOT = re.compile(r"\{(" + "|".join(SLOTS) + r")\}")


@dataclass(frozen=True)
class Template:
    """One prompt template.

    Attributes:
        parts: The text in the order of the prompt: words at even places (perhaps empty), a slot's name at odd ones.
    """

    name: str
    readout: str
    text: str

    @property
    def parts(self) -> list[str]:
        """Words and slots in turn, beginning and ending with words."""
        return _SLOT.split(self.text)

    @property
    def hash(self) -> str:
        """SHA-256 of the text, hexadecimal."""
        return hashlib.sha256(self.text.encode()).hexdigest()


def shipped() -> dict[str, Template]:
    """The templates that come with the scorer, by name."""
    return {
        name: Template(name, readout, (FOLDER / f"{name}.txt").read_text(encoding="utf-8").strip())
        for name, readout in READOUTS.items()
    }


def query_hash(templates: dict[str, Template]) -> str:
    """SHA-256 over the templates that ask for the tail and for the head, hexadecimal."""
    hashes = [templates[SIDES[side]].hash for side in (TAIL, HEAD)]
    return hashlib.sha256("\n".join(hashes).encode()).hexdigest()
