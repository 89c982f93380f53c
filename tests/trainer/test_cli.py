import json
import os
import subprocess
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import pytest
from typer.main import get_command

from trainer.cli import app
from trainer.graph import read_folder

from .command_line import tripleherd, well
from .support import Run

COMMANDS = (
    "demo",
    "split",
    "convert",
    "start",
    "join",
    "keys",
    "leave",
    "coordinator",
    "train",
    "evaluate",
    "fuse",
    "predict",
    "experiment",
)
PARTS = {
    "keys": ("rotate",),
    "coordinator": ("export", "page", "pause", "resume", "stop", "status", "clients", "revoke"),
}


def test_split_writes_what_every_other_command_reads(nations: Path) -> None:
    graphs = [read_folder(nations / name) for name in ("client_0", "client_1")]
    assert sum(len(graph.triples[split]) for graph in graphs for split in graph.triples) == 1992
    assert not set(graphs[0].relations) & set(graphs[1].relations)


def test_the_commands_are_those_that_are_tested() -> None:
    commands = get_command(app).commands  # type: ignore[attr-defined]
    assert set(commands) == set(COMMANDS)
    assert {name: tuple(c.commands) for name, c in commands.items() if hasattr(c, "commands")} == PARTS


@pytest.mark.parametrize("command", [*COMMANDS, *(f"{name} {part}" for name, parts in PARTS.items() for part in parts)])
def test_the_help_of_every_command_shows_an_example(command: str, here: Callable[..., Run]) -> None:
    run = here(*command.split(), "--help")
    assert run.returncode == 0
    shown = run.stdout
    assert f"tripleherd {command}" in shown.split("Example:")[1]
    assert ("--json" in shown) == (command != "coordinator")  # which is a group of commands


@pytest.mark.parametrize("command", [(), ("coordinator",), ("keys",), ("start",), ("join",)], ids=" ".join)
def test_help_fits_a_narrow_terminal_uncut(
    command: tuple[str, ...], here: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    shown = here(*command, "--help").stdout
    assert "…" not in shown
    assert "..." not in shown.replace("[ARGS]...", "")
    if command == ("join",):
        assert all(f"TRAINER_{name}" in shown for name in ("SHARED_KEY_FILE", "INVITATION_FILE", "COORDINATOR"))


def test_help_lists_the_commands_and_what_statuses_mean() -> None:
    shown = well("--help")
    assert all(command in shown for command in COMMANDS)
    assert "status 0 where all went well, 2 after an error that you can mend" in " ".join(shown.split())


def test_the_version_is_that_of_the_package(here: Callable[..., Run]) -> None:
    assert here("--version").stdout.strip() == f"tripleherd {metadata.version('tripleherd')}"


def test_split_as_json_is_what_it_writes(here: Callable[..., Run], tmp_path: Path) -> None:
    run = here("split", "nations", "--clients", "2", "--out", tmp_path / "dealt", "--json")
    assert json.loads(run.stdout) == json.loads((tmp_path / "dealt" / "statistics.json").read_text())
    assert "client_0" in run.stderr


def test_an_error_is_one_line_and_verbose_shows_where_it_arose(nations: Path) -> None:
    plain, traced = (tripleherd(*verbose, "evaluate", nations, "--data", nations) for verbose in ([], ["--verbose"]))
    assert plain.returncode == traced.returncode == 2
    assert plain.stdout == traced.stdout == ""
    assert len(plain.stderr.splitlines()) == 1
    assert "Traceback" in traced.stderr
    assert traced.stderr.endswith(plain.stderr)


def test_shells_complete_commands() -> None:
    asked = {"_TRIPLEHERD_COMPLETE": "complete_bash", "COMP_WORDS": "tripleherd ev", "COMP_CWORD": "1"}
    program = Path(sys.executable).with_name("tripleherd")
    done = subprocess.run([program], env=os.environ | asked, capture_output=True, text=True, timeout=60)
    assert done.stdout.split() == ["evaluate"]


Arguments = Callable[[Path, Path], list[str | Path]]

NO_SCORER = ["--scorer", "http://127.0.0.1:9"]
"""Nobody listens there; who asks it waits for minutes."""

MENDABLE: dict[str, tuple[Arguments, str]] = {
    "missing data folder": (
        lambda data, model: ["train", data / "gone", "--out", data / "o"],
        "gone: there is no such",
    ),
    "missing token file": (
        lambda data, model: ["start", "--operator-token-file", data / "gone"],
        "gone: the secret in it cannot be read: No such file",
    ),
    "folder of clients": (
        lambda data, model: ["train", data, "--out", data / "o"],
        "train.tsv is missing; do you mean",
    ),
    "too many columns": (
        lambda data, model: ["train", four_columns(data), "--out", data / "o"],
        "four.csv --columns HEAD,RELATION,TAIL --clients 1 --out FOLDER`",
    ),
    "missing model": (lambda data, model: ["evaluate", data, "--data", data / "client_0"], "holds no model"),
    "unknown data set": (lambda data, model: ["split", "nationz", "--out", data / "o"], "nationz: neither"),
    "existing split": (
        lambda data, model: ["split", "nations", "--out", data, "--clients", "2"],
        "is there already",
    ),
    "data of others": (lambda data, model: ["evaluate", model, "--data", data / "client_1"], "unknown to the model"),
    "head and tail": (
        lambda data, model: ["predict", model, "--relation", "embassy", "--head", "usa", "--tail", "uk"],
        "either --head, to ask for tails, or --tail",
    ),
    "unknown entity": (
        lambda data, model: ["predict", model, "--relation", relation_of(data), "--head", "CHI"],
        "no entity 'CHI'; close: china",
    ),
    "empty entity": (
        lambda data, model: ["predict", model, "--relation", relation_of(data), "--head", ""],
        "the model knows no entity ''",
    ),
    "no scorer": (
        lambda data, model: ["train", data / "client_0", "--out", data / "o", "--interaction", "llama"],
        "give its address as --scorer",
    ),
    "preset that llama has not": (
        lambda data, model: (
            ["start", "--operator-token-file", token(data), "--preset", "fede", "--interaction", "llama", *NO_SCORER]
        ),
        "preset: FedE was published with transe",
    ),
    "form that cannot be, before the scorer is asked": (
        lambda data, model: (
            ["train", data / "client_0", "--out", data / "o", "--interaction", "llama", "--no-vectors", *NO_SCORER]
        ),
        "vectors: slots hold something",
    ),
    "bad scorer address": (
        lambda data, model: (
            ["train", data / "client_0", "--out", data / "o", "--interaction", "llama", "--scorer", "localhost:8000"]
        ),
        "'localhost:8000' is not a URL",
    ),
    "odd dim": (
        lambda data, model: ["train", data / "client_0", "--out", data / "o", "--interaction", "rotate", "--dim", "5"],
        "dim must be even",
    ),
    "strategy beyond its bounds": (
        lambda data, model: ["start", "--operator-token-file", token(data), "--aggregation", "mean", "--trim", "0.7"],
        "aggregation.trim",
    ),
    "frequencies of relations": (
        lambda data, model: (
            ["start", "--operator-token-file", token(data), "--aggregation", "frequency", "--share", "both"]
        ),
        "needs share `entities`",
    ),
    "learning rate of 0": (
        lambda data, model: ["train", data / "client_0", "--out", data / "o", "--learning-rate", "0"],
        "learning_rate",
    ),
}


def four_columns(data: Path) -> Path:
    file = data.parent / "four.csv"
    file.write_text("a,r,b,0.9\n")
    return file


def token(data: Path) -> Path:
    file = data.parent / "operator"
    file.write_text("t0ken")
    return file


def relation_of(data: Path) -> str:
    return read_folder(data / "client_0").relations[0]


@pytest.mark.parametrize(("arguments", "message"), MENDABLE.values(), ids=MENDABLE)
def test_what_a_user_can_mend_is_one_line(
    nations: Path, nations_model: Path, arguments: Arguments, message: str, here: Callable[..., Run]
) -> None:
    given = arguments(nations, nations_model)
    run = tripleherd(*given) if "gone" in message else here(*given)
    assert run.returncode == 2
    (line,) = run.stderr.splitlines()
    assert line.startswith("error: ")
    assert message in line
    assert not (nations / "o").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ["train", "somewhere", "--out", "o", "--interaction", "tranze"],
        ["train", "somewhere", "--out", "o", "--layer", "first"],
        ["demo", "--interaction", "tranze"],
        ["join"],
        ["predict", "somewhere", "--relation", "r", "--top", "0"],
        ["start", "--operator-token-file", "o", "--aggregation", "average"],
        ["coordinator", "revoke", "--operator-token-file", "o"],
    ],
    ids=" ".join,
)
def test_what_was_typed_wrong_shows_the_usage(arguments: list[str], here: Callable[..., Run]) -> None:
    run = tripleherd(*arguments) if "train" in arguments else here(*arguments)
    assert run.returncode == 2
    assert run.stderr.startswith("Usage: ")
    assert "Traceback" not in run.stderr
    if "tranze" in arguments:
        assert "tranze" in run.stderr
        assert "transe" in run.stderr
