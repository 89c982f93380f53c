"""A table as text: Markdown, LaTeX with booktabs, and on the terminal."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from rich import table
from rich.text import Text

_LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
} | {sign: f"\\{sign}" for sign in "&%$#_{}"}


@dataclass(frozen=True)
class Cell:
    """One cell."""

    text: str
    bold: bool = False


@dataclass(frozen=True)
class Sheet:
    """A table.

    Attributes:
        label: Its name in a LaTeX document.
        caption: What is in it and how it was measured.
        header: Names of the columns.
        texts: How many of the first columns are text; the others are numbers, flush right.
        sections: Rows, with a rule between two sections.
    """

    label: str
    caption: str
    header: Sequence[str]
    texts: int
    sections: Sequence[Sequence[Sequence[Cell]]]

    def markdown(self) -> str:
        """For `table.md`: the caption, then the table."""
        rule = ["---" if i < self.texts else "---:" for i in range(len(self.header))]
        rows = [[_markdown(cell) for cell in row] for section in self.sections for row in section]
        lines = ["| " + " | ".join(row) + " |" for row in [list(self.header), rule, *rows]]
        return f"{self.caption}\n\n" + "\n".join(lines) + "\n"

    def latex(self) -> str:
        """For `table.tex`: a float for a document that uses the package booktabs."""
        columns = "l" * self.texts + "r" * (len(self.header) - self.texts)
        blocks = ["".join(_row([_latex(cell) for cell in row]) for row in section) for section in self.sections]
        return "".join(
            [
                "\\begin{table}\n\\centering\n",
                f"\\caption{{{escaped(self.caption)}}}\n\\label{{tab:{self.label}}}\n",
                f"\\begin{{tabular}}{{{columns}}}\n\\toprule\n",
                _row([escaped(name) for name in self.header]),
                "\\midrule\n",
                "\\midrule\n".join(blocks),
                "\\bottomrule\n\\end{tabular}\n\\end{table}\n",
            ]
        )

    def shown(self) -> table.Table:
        """For the terminal."""
        out = table.Table(caption=Text(self.caption), caption_justify="left")
        for i, name in enumerate(self.header):
            out.add_column(Text(name), justify="left" if i < self.texts else "right", overflow="fold")
        for section in self.sections:
            for row in section:
                last = row is section[-1]
                out.add_row(*(Text(c.text, style="bold" if c.bold else "") for c in row), end_section=last)
        return out


def _row(cells: list[str]) -> str:
    return " & ".join(cells) + " \\\\\n"


def _markdown(cell: Cell) -> str:
    text = re.sub(r"([\\|_*`<\[])", r"\\\1", cell.text)
    return f"**{text}**" if cell.bold else text


def _latex(cell: Cell) -> str:
    return f"\\textbf{{{escaped(cell.text)}}}" if cell.bold else escaped(cell.text)


def escaped(text: str) -> str:
    """Text as LaTeX shows it."""
    return "".join(_LATEX.get(sign, sign) for sign in text)
