import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from typer.main import get_command

from protocol.messages import HEAD, TAIL
from trainer.cli import app
from trainer.graph import read_folder
from trainer.saved import read_model

from .support import Run, queries

ROOT = Path(__file__).parents[2]
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
PARTS = {"keys": ("rotate",), "coordinator": ("export", "page", "pause", "resume", "stop", "clients", "revoke")}
SHOWN = ("mrr", "hits@1", "hits@3", "hits@5", "hits@10", "mr", "amri")
QUICK = ("--rounds", "4", "--evaluate-every", "2", "--dim", "16", "--local-epochs", "5", "--learning-rate", "0.05")


def tripleherd(*arguments: str | Path) -> Run:
    """The command line as a user starts it; nothing is inherited that would set an option."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("TRAINER_", "FORCE_COLOR"))}
    environment |= {"PYTHONPATH": str(ROOT), "COLUMNS": "120", "NO_COLOR": "1", "TERM": "dumb", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "trainer", *map(str, arguments)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)


def well(*arguments: str | Path) -> str:
    run = tripleherd(*arguments)
    assert run.returncode == 0, run.stderr
    return run.stdout


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cli") / "data"
    shown = well("split", "nations", "--clients", "2", "--seed", "3", "--out", folder)
    assert "client_0" in shown
    assert "client_1" in shown
    return folder


@pytest.fixture(scope="session")
def model(data: Path) -> Path:
    """A model of one client."""
    out = data.parent / "model"
    shown = well("train", data / "client_0", "--interaction", "distmult", "--out", out, *QUICK)
    assert "isolation" in shown
    return out


def test_split_writes_what_every_other_command_reads(data: Path) -> None:
    graphs = [read_folder(data / name) for name in ("client_0", "client_1")]
    assert sum(len(graph.triples[split]) for graph in graphs for split in graph.triples) == 1992
    assert not set(graphs[0].relations) & set(graphs[1].relations)


def test_train_writes_results_and_evaluate_finds_the_same(data: Path, model: Path) -> None:
    (result,) = json.loads((model / "results.json").read_text())
    assert (result["interaction"], result["mode"], result["client"]) == ("distmult", "isolation", "client_0")
    assert result["triples"] == len(read_folder(data / "client_0").triples["test"])
    assert result["sides"]["both"]["mrr"] > 0.3  # 14 candidates: 0.23 by chance
    shown = well("evaluate", model, "--data", data / "client_0")
    rows = {cells[0]: cells[1:] for line in shown.splitlines() if (cells := line.replace("│", " ").split())}
    for side in ("both", "head", "tail"):
        assert rows[side] == [f"{result['sides'][side][name]:.3f}" for name in SHOWN]
    written = json.loads(well("evaluate", model, "--data", data / "client_0", "--json"))
    assert written["sides"] == result["sides"]
    same = ("interaction", "mode", "triples", "candidates", "left_out")
    assert {name: written[name] for name in same} == {name: result[name] for name in same}
    assert (written["split"], written["tie_tolerance"]) == ("test", 0.0)


def test_a_model_is_evaluated_with_the_tolerance_that_it_was_trained_with(
    data: Path, tmp_path: Path, here: Callable[..., Run]
) -> None:
    options = ("--tie-tolerance", "0.5", "--rounds", "1", "--dim", "4")
    assert here("train", data / "client_0", "--out", tmp_path, *options).returncode == 0
    (result,) = json.loads((tmp_path / "results.json").read_text())
    shown = here("evaluate", tmp_path, "--data", data / "client_0").stdout
    written = json.loads(here("evaluate", tmp_path, "--data", data / "client_0", "--json").stdout)
    assert written["sides"] == result["sides"]
    assert written["tie_tolerance"] == 0.5
    assert written["sides"]["both"]["mrr_gap"] > 0.1
    assert "ties: MRR is up to" in shown


def test_train_pools_several_folders_and_measures_each(data: Path, tmp_path: Path) -> None:
    folders = (data / "client_0", data / "client_1")
    well("train", *folders, "--out", tmp_path / "pooled", *QUICK)
    results = json.loads((tmp_path / "pooled" / "results.json").read_text())
    assert [(r["mode"], r["client"]) for r in results] == [("collection", "client_0"), ("collection", "client_1")]
    assert [r["candidates"] for r in results] == [len(read_folder(folder).entities) for folder in folders]


@pytest.mark.parametrize("given", ["--head", "--tail"])
def test_predict_ranks_entities_and_marks_what_is_known(
    data: Path, model: Path, given: str, here: Callable[..., Run]
) -> None:
    graph = read_folder(data / "client_0")
    head, relation, tail = graph.named("train")[0]
    asked = (given, head if given == "--head" else tail, "--relation", relation)
    command = ("predict", model, *asked, "--top", "14", "--data", data / "client_0")
    shown = well(*command) if given == "--head" else here(*command).stdout
    rows = [cells for line in shown.splitlines() if (cells := line.replace("│", " ").split()) and cells[0].isdigit()]
    assert [row[0] for row in rows] == [str(i) for i in range(1, 15)]
    one, side = (head, TAIL) if given == "--head" else (tail, HEAD)
    asked_row = (graph.entities.index(one), graph.relations.index(relation), side)
    (scores,) = read_model(model).scorer(queries(asked_row))
    best = np.argsort(-scores)
    assert [row[1:3] for row in rows] == [[graph.entities[i], f"{scores[i]:.3f}"] for i in best]
    known = {triple for split in graph.triples for triple in graph.named(split)}
    for row in rows:
        triple = (head, relation, row[1]) if given == "--head" else (row[1], relation, tail)
        assert (row[-1] == "yes") == (triple in known)


def test_predict_leaves_out_what_is_known(data: Path, model: Path, here: Callable[..., Run]) -> None:
    head, relation, _ = read_folder(data / "client_0").named("train")[0]
    asked = ("predict", model, "--head", head, "--relation", relation, "--json")
    told = json.loads(here(*asked, "--top", "14", "--data", data / "client_0").stdout)["best"]
    found = json.loads(here(*asked, "--top", "3", "--data", data / "client_0", "--new").stdout)["best"]
    assert any(each["known"] for each in told)
    assert found == [each for each in told if not each["known"]][:3]
    run = here(*asked, "--new")
    assert (run.returncode, "give it as --data" in run.stderr) == (2, True)


def test_predict_takes_and_shows_names_where_the_data_has_them(
    data: Path, model: Path, here: Callable[..., Run], tmp_path: Path
) -> None:
    named = tmp_path / "named"
    shutil.copytree(data / "client_0", named)
    head, relation, _ = read_folder(named).named("train")[0]
    others = [entity for entity in read_folder(named).entities if entity != head]
    labels = {head: "The Head", others[0]: "Twin", others[1]: "twin"} | {one: f"name of {one}" for one in others[2:]}
    (named / "entities.tsv").write_text("".join(f"{one}\t{label}\n" for one, label in labels.items()))
    (named / "relations.tsv").write_text(f"{relation}\tis related to\n")
    by_id = ("predict", model, "--head", head, "--relation", relation, "--data")
    by_name = ("predict", model, "--head", "the head", "--relation", "is related to", "--data", named)
    bare, found = (json.loads(here(*asked, "--json").stdout) for asked in ([*by_id, data / "client_0"], by_name))
    assert (found["head"], found["relation"]) == (head, relation)
    assert found == bare | {"best": [each | {"name": labels[each["entity"]]} for each in bare["best"]]}
    assert labels[found["best"][0]["entity"]] in here(*by_name).stdout
    twins = here("predict", model, "--tail", "Twin", "--relation", relation, "--data", named)
    assert twins.returncode == 2
    assert all(twin in twins.stderr for twin in others[:2])
    close = here("predict", model, "--tail", "head", "--relation", relation, "--data", named)
    assert "close: The Head" in close.stderr


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


def test_json_is_all_that_stands_on_standard_output(data: Path, model: Path) -> None:
    graph = read_folder(data / "client_0")
    head, relation, _ = graph.named("train")[0]
    asked = ("predict", model, "--head", head, "--relation", relation, "--top", "3", "--data", data / "client_0")
    found = json.loads(tripleherd(*asked, "--json").stdout)
    assert (found["head"], found["relation"], found["tail"]) == (head, relation, None)
    shown = [cells for line in well(*asked).splitlines() if (cells := line.replace("│", " ").split())]
    assert [[str(each["rank"]), each["entity"], f"{each['score']:.3f}"] for each in found["best"]] == [
        row[:3] for row in shown if row[0].isdigit()
    ]
    assert all(isinstance(each["known"], bool) for each in found["best"])


def test_split_as_json_is_what_it_writes(here: Callable[..., Run], tmp_path: Path) -> None:
    run = here("split", "nations", "--clients", "2", "--out", tmp_path / "dealt", "--json")
    assert json.loads(run.stdout) == json.loads((tmp_path / "dealt" / "statistics.json").read_text())
    assert "client_0" in run.stderr


def test_an_error_is_one_line_and_verbose_shows_where_it_arose(data: Path) -> None:
    plain, traced = (tripleherd(*verbose, "evaluate", data, "--data", data) for verbose in ([], ["--verbose"]))
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
    data: Path, model: Path, arguments: Arguments, message: str, here: Callable[..., Run]
) -> None:
    given = arguments(data, model)
    run = tripleherd(*given) if "gone" in message else here(*given)
    assert run.returncode == 2
    (line,) = run.stderr.splitlines()
    assert line.startswith("error: ")
    assert message in line
    assert not (data / "o").exists()


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
