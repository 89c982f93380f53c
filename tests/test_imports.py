"""The parts of the system meet over HTTP only: each imports `protocol` and never another part."""

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
OURS = {"protocol", "services", "trainer", "tools", "tests", "benchmarks"}
SHARED = {
    "services.logs",
    "services.metrics",
    "services.openapi",
    "services.problem_pages",
    "services.settings",
    "services.tokens",
    "services.web",
}
ALLOWED = {
    "protocol": {"protocol"},
    "services/scorer": {"protocol", "services.scorer", *SHARED},
    "services/coordinator": {"protocol", "services.coordinator", *SHARED},
    "services/logs.py": {"protocol", "services.logs", "services.web"},
    "services/metrics.py": {"protocol", "services.logs"},
    "services/openapi.py": {"protocol", "services.web"},
    "services/problem_pages.py": {"protocol", "services.openapi"},
    "services/web.py": {"protocol", "services.web"},
    "services/settings.py": {"services.settings"},
    "services/tokens.py": {"services.tokens"},
    "trainer": {"protocol", "trainer"},
}


def imports(source: str, package: str) -> Iterator[str]:
    """Every module that the source may import, wherever in it, as an absolute name; relative to `package`."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            yield from (f"{module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] in ("import_module", "__import__"):
            yield from (str(a.value) for a in node.args if isinstance(a, ast.Constant))


def strangers(source: str, package: str, allowed: set[str]) -> list[str]:
    ours = [name for name in imports(source, package) if name.split(".")[0] in OURS]
    return [name for name in ours if not any(f"{name}.".startswith(f"{prefix}.") for prefix in allowed)]


def files(part: str) -> list[Path]:
    path = ROOT / part
    return [path] if path.is_file() else sorted(path.rglob("*.py"))


@pytest.mark.parametrize("part", ALLOWED)
def test_a_part_imports_nothing_but_the_protocol_and_itself(part: str) -> None:
    assert files(part)
    found = {}
    for file in files(part):
        package = ".".join(file.relative_to(ROOT).parent.parts)
        if bad := strangers(file.read_text(encoding="utf-8"), package, ALLOWED[part]):
            found[str(file.relative_to(ROOT))] = bad
    assert not found


PLACES = ("protocol", "services", "services/scorer", "services/coordinator", "trainer", "tools", "benchmarks")


def place(module: str) -> str:
    """Where in the drawing a module stands."""
    first, _, rest = module.partition(".")
    second = f"{first}/{rest.partition('.')[0]}"
    return second if second in PLACES else first


def test_the_drawing_of_the_house_is_what_the_code_imports() -> None:
    house: dict[str, set[str]] = {name: set() for name in PLACES}
    for file in (file for top in {name.split("/")[0] for name in PLACES} for file in (ROOT / top).rglob("*.py")):
        own = place(".".join(file.relative_to(ROOT).with_suffix("").parts))
        found = imports(file.read_text(encoding="utf-8"), ".".join(file.relative_to(ROOT).parent.parts))
        house[own] |= {place(name) for name in found if place(name) in PLACES} - {own}
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    drawing = page.partition("<!-- house -->\n```\n")[2].partition("```")[0]
    drawn = {}
    for line in drawing.splitlines():
        own, _, others = line.strip().partition(" ")
        names = set(others.strip("─▶ ").split(", "))
        assert names == {"nothing of ours"} or names <= set(drawn) | set(PLACES)
        drawn[own] = names - {"nothing of ours"}
    assert drawn == house
    order = list(drawn)
    assert all(order.index(own) < order.index(other) for own, others in drawn.items() for other in others)


def test_every_package_of_ours_has_a_rule() -> None:
    ruled = {file for part in ALLOWED for file in files(part)} | {ROOT / "services/__init__.py"}
    ours = {file for package in ("protocol", "services", "trainer") for file in (ROOT / package).rglob("*.py")}
    assert ours <= ruled


@pytest.mark.parametrize(
    "planted",
    [
        "import services.scorer.engine",
        "from services import scorer",
        "from services.scorer.engine.engine import Engine as E",
        "def f():\n    from services.scorer import engine",
        "if True:\n    import numpy, services.scorer",
        "import importlib\nimportlib.import_module('services.scorer')",
        "__import__('services.scorer.app')",
        "from ..scorer import engine",
        "import trainer",
        "from trainer.graph import Graph",
        "from services.scorerlike import x",
    ],
)
def test_a_planted_violation_is_found(planted: str) -> None:
    assert strangers(planted, "services.coordinator", ALLOWED["services/coordinator"])


def test_the_walker_lets_through_what_is_allowed() -> None:
    source = "import numpy\nfrom protocol.tensors import encode\nfrom services import web\nfrom . import app"
    assert strangers(source, "services.coordinator", ALLOWED["services/coordinator"]) == []


@pytest.mark.parametrize(
    ("module", "heavy"),
    [
        ("services.coordinator.app", {"torch", "transformers", "pykeen"}),
        ("trainer.cli", {"transformers", "pykeen", "fastapi", "services", "matplotlib", "tensorboard"}),
        ("protocol.rounds", {"torch", "transformers", "fastapi", "httpx"}),
    ],
)
def test_importing_a_part_does_not_load_what_it_does_not_need(module: str, heavy: set[str]) -> None:
    code = f"import sys, {module}; print(*sys.modules)"
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    run = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    loaded = set(run.stdout.split())
    assert module in loaded
    assert not loaded & heavy
