"""What commands print: words and tables for people, and results as JSON for programs."""

import json
import sys
from typing import Any

from rich.console import Console, RenderableType


def print_line(console: Console, text: str) -> None:
    """A line as it is: not broken, and nobody's words taken for markup."""
    console.print(text, soft_wrap=True, highlight=False, markup=False)


class Output(Console):
    """The terminal.

    Args:
        as_json: Results go to standard output as JSON too, and what is for people to standard error.
    """

    def __init__(self, as_json: bool = False) -> None:
        super().__init__(stderr=as_json)
        self._as_json = as_json

    def result(self, content: Any, *shown: RenderableType) -> None:
        """What a command was called for: what is `shown` to people, and for programs the `content`, plain values."""
        for each in shown:
            self.print(each)
        if self._as_json:
            sys.stdout.write(json.dumps(content, indent=1) + "\n")
