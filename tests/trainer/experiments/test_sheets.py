import shutil
import subprocess
from pathlib import Path

import pytest
from rich.console import Console

from trainer.experiments.sheets import Cell, Sheet, escaped

SHEET = Sheet(
    "one-both",
    "ranks of 50 % & more ± one",
    ("data_set", "variant", "MRR"),
    2,
    [
        [[Cell("a_b"), Cell("t|*x*"), Cell("0.100 ± 0.010", True)]],
        [[Cell("#1 {~^\\}"), Cell("$&%"), Cell("0.200")]],
    ],
)


def test_markdown_has_a_row_a_line_with_nothing_of_a_name_taken_for_markup() -> None:
    caption, blank, *lines = SHEET.markdown().splitlines()
    assert (caption, blank) == (SHEET.caption, "")
    assert lines == [
        "| data_set | variant | MRR |",
        "| --- | --- | ---: |",
        r"| a\_b | t\|\*x\* | **0.100 ± 0.010** |",
        r"| #1 {~^\\} | $&% | 0.200 |",
    ]


def test_latex_escapes_names_and_rules_sections_off() -> None:
    text = SHEET.latex()
    assert r"\caption{ranks of 50 \% \& more $\pm$ one}" in text
    assert "\\begin{tabular}{llr}\n\\toprule\ndata\\_set & variant & MRR \\\\\n\\midrule\n" in text
    assert "a\\_b & t|*x* & \\textbf{0.100 $\\pm$ 0.010} \\\\\n\\midrule\n" in text
    assert r"\#1 \{\textasciitilde{}\textasciicircum{}\textbackslash{}\} & \$\&\% & 0.200 \\" in text
    assert text.index("\\bottomrule") < text.index("\\end{tabular}") < text.index("\\end{table}")


def test_latex_compiles(tmp_path: Path) -> None:
    if shutil.which("pdflatex") is None:
        pytest.skip("pdflatex is not installed")
    page = "\\documentclass{article}\\usepackage{booktabs}\\begin{document}\n%s\\end{document}\n"
    (tmp_path / "page.tex").write_text(page % SHEET.latex(), encoding="utf-8")
    command = ["pdflatex", "-halt-on-error", "-interaction=nonstopmode", "page.tex"]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert run.returncode == 0, run.stdout[-2000:]


def test_plain_text_stays_as_it_is() -> None:
    assert escaped("umls-3, client 1") == "umls-3, client 1"


def test_the_terminal_shows_every_cell() -> None:
    console = Console(width=100)
    with console.capture() as capture:
        console.print(SHEET.shown())
    for text in ("data_set", "a_b", "t|*x*", "0.100 ± 0.010", "50 % & more"):
        assert text in capture.get()


def test_a_narrow_terminal_shows_names_to_their_end() -> None:
    names = [f"variant-{i}-of-a-long-name-{i}" for i in range(2)]
    console = Console(width=30)
    with console.capture() as capture:
        console.print(
            Sheet("l", "c", ("variant", "MRR"), 1, [[[Cell(n), Cell("0.100 ± 0.010")] for n in names]]).shown()
        )
    first = "".join(line.split("│")[1].strip() for line in capture.get().splitlines() if "│" in line)
    assert first == "".join(names)
