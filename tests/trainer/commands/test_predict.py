import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from protocol.messages import HEAD, TAIL
from tests.trainer.command_line import tripleherd, well
from tests.trainer.support import Run, queries
from trainer.graph import read_folder
from trainer.saved import read_model


@pytest.mark.parametrize("given", ["--head", "--tail"])
def test_predict_ranks_entities_and_marks_what_is_known(
    nations: Path, nations_model: Path, given: str, here: Callable[..., Run]
) -> None:
    graph = read_folder(nations / "client_0")
    head, relation, tail = graph.named("train")[0]
    asked = (given, head if given == "--head" else tail, "--relation", relation)
    command = ("predict", nations_model, *asked, "--top", "14", "--data", nations / "client_0")
    shown = well(*command) if given == "--head" else here(*command).stdout
    rows = [cells for line in shown.splitlines() if (cells := line.replace("│", " ").split()) and cells[0].isdigit()]
    assert [row[0] for row in rows] == [str(i) for i in range(1, 15)]
    one, side = (head, TAIL) if given == "--head" else (tail, HEAD)
    asked_row = (graph.entities.index(one), graph.relations.index(relation), side)
    (scores,) = read_model(nations_model).scorer(queries(asked_row))
    best = np.argsort(-scores)
    assert [row[1:3] for row in rows] == [[graph.entities[i], f"{scores[i]:.3f}"] for i in best]
    known = {triple for split in graph.triples for triple in graph.named(split)}
    for row in rows:
        triple = (head, relation, row[1]) if given == "--head" else (row[1], relation, tail)
        assert (row[-1] == "yes") == (triple in known)


def test_predict_leaves_out_what_is_known(nations: Path, nations_model: Path, here: Callable[..., Run]) -> None:
    head, relation, _ = read_folder(nations / "client_0").named("train")[0]
    asked = ("predict", nations_model, "--head", head, "--relation", relation, "--json")
    told = json.loads(here(*asked, "--top", "14", "--data", nations / "client_0").stdout)["best"]
    found = json.loads(here(*asked, "--top", "3", "--data", nations / "client_0", "--new").stdout)["best"]
    assert any(each["known"] for each in told)
    assert found == [each for each in told if not each["known"]][:3]
    run = here(*asked, "--new")
    assert (run.returncode, "give it as --data" in run.stderr) == (2, True)


def test_predict_takes_and_shows_names_where_the_data_has_them(
    nations: Path, nations_model: Path, here: Callable[..., Run], tmp_path: Path
) -> None:
    named = tmp_path / "named"
    shutil.copytree(nations / "client_0", named)
    head, relation, _ = read_folder(named).named("train")[0]
    others = [entity for entity in read_folder(named).entities if entity != head]
    labels = {head: "The Head", others[0]: "Twin", others[1]: "twin"} | {one: f"name of {one}" for one in others[2:]}
    (named / "entities.tsv").write_text("".join(f"{one}\t{label}\n" for one, label in labels.items()))
    (named / "relations.tsv").write_text(f"{relation}\tis related to\n")
    by_id = ("predict", nations_model, "--head", head, "--relation", relation, "--data")
    by_name = ("predict", nations_model, "--head", "the head", "--relation", "is related to", "--data", named)
    bare, found = (json.loads(here(*asked, "--json").stdout) for asked in ([*by_id, nations / "client_0"], by_name))
    assert (found["head"], found["relation"]) == (head, relation)
    assert found == bare | {"best": [each | {"name": labels[each["entity"]]} for each in bare["best"]]}
    assert labels[found["best"][0]["entity"]] in here(*by_name).stdout
    twins = here("predict", nations_model, "--tail", "Twin", "--relation", relation, "--data", named)
    assert twins.returncode == 2
    assert all(twin in twins.stderr for twin in others[:2])
    close = here("predict", nations_model, "--tail", "head", "--relation", relation, "--data", named)
    assert "close: The Head" in close.stderr


def test_json_is_all_that_stands_on_standard_output(nations: Path, nations_model: Path) -> None:
    graph = read_folder(nations / "client_0")
    head, relation, _ = graph.named("train")[0]
    asked = (
        "predict",
        nations_model,
        "--head",
        head,
        "--relation",
        relation,
        "--top",
        "3",
        "--data",
        nations / "client_0",
    )
    found = json.loads(tripleherd(*asked, "--json").stdout)
    assert (found["head"], found["relation"], found["tail"]) == (head, relation, None)
    shown = [cells for line in well(*asked).splitlines() if (cells := line.replace("│", " ").split())]
    assert [[str(each["rank"]), each["entity"], f"{each['score']:.3f}"] for each in found["best"]] == [
        row[:3] for row in shown if row[0].isdigit()
    ]
    assert all(isinstance(each["known"], bool) for each in found["best"])
