import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.trainer.support import Run, random_graph, small_settings
from tests.trainer.wordy_scorer import wordy_scorer
from trainer.graph import read_folder, write_folder
from trainer.interactions import interaction_of
from trainer.local import train_alone, unheard
from trainer.ranking import known_answers, rank
from trainer.saved import read_model, save_model

Here = Callable[..., Run]
COLUMNS = ("mrr", "hits@1", "hits@3", "hits@5", "hits@10")
RANKINGS = ("alone", "reranked", "mixture")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A graph with texts, in `data`, and a model of it, in `model`, for each of two seeds."""
    folder = tmp_path_factory.mktemp("rerank")
    made = random_graph(3, entities=25, triples=500)
    write_folder(folder / "data", {split: made.named(split) for split in made.triples})
    (folder / "data" / "entities.tsv").write_text("e001\tone\tThe first.\n")
    graph = read_folder(folder / "data")
    settings = small_settings("distmult", rounds=20, evaluate_every=20, local={"learning_rate": 0.05})
    for seed, name in enumerate(("model", "other")):
        trained = train_alone(graph, interaction_of("distmult"), settings, seed, unheard)
        save_model(folder / name, graph, "isolation", settings, dict(trained.state))
    return folder


def evaluated(
    here: Here, folder: Path, url: str, tmp_path: Path, *options: str, model: str = "model"
) -> tuple[str, Any]:
    """What is printed, and the JSON file."""
    arguments = (folder / model, "--data", folder / "data", "--scorer", url, "--kept", tmp_path / "kept")
    run = here("evaluate", *arguments, "--rerank", "verdict", *options, "--json")
    assert run.returncode == 0, run.stderr
    return run.stderr, json.loads(run.stdout)


def flat(shown: str) -> str:
    """What is printed, wherever lines end."""
    return " ".join(shown.split())


def test_three_rankings_are_shown_and_written(folder: Path, tmp_path: Path, here: Here) -> None:
    with wordy_scorer() as scorer:
        shown, written = evaluated(here, folder, scorer.server.url, tmp_path, "--shortlist", "8")
    graph = read_folder(folder / "data")
    plain = rank(graph.triples["test"], known_answers(graph, "test"), read_model(folder / "model").scorer)
    for side, values in plain.metrics().items():
        assert written["rankings"]["alone"][side] == pytest.approx(values.model_dump())
    inside = np.concatenate([plain.tail.realistic, plain.head.realistic]) <= 8
    assert (written["shortlist"], written["recall"]["both"]) == (8, pytest.approx(inside.mean()))
    hits = {name: written["rankings"][name]["both"]["hits@10"] for name in RANKINGS}
    assert hits["alone"] == hits["reranked"] == hits["mixture"]  # lists of eight change nothing beyond them
    assert written["rankings"]["reranked"]["both"]["mrr"] != written["rankings"]["alone"]["both"]["mrr"]

    rows = [line.replace("│", " ").split() for line in shown.splitlines()]
    rows = [cells for cells in rows if len(cells) == 8 and cells[0] in ("both", "head", "tail")]
    assert [cells[:2] for cells in rows] == [[side, name] for side in ("both", "head", "tail") for name in RANKINGS]
    for side, name, recall, *values in rows:
        assert recall == f"{written['recall'][side]:.3f}"
        assert values == [f"{written['rankings'][name][side][column]:.3f}" for column in COLUMNS]
    assert "recall@8" in shown
    assert f"share is {written['shares']['tail']:.2f} of tails" in flat(shown)
    cost = written["cost"]
    assert cost["scored"] == sum(len(request.triples) for request in scorer.asked) > 0
    assert f"{cost['scored']} triples scored ({10 * cost['scored']} tokens" in flat(shown)
    assert written["scorer"]["template_hashes"] == {
        "triple": "hash of triple",
        "triple_head": "hash of triple_head",
    }


def test_a_rerun_asks_nothing_and_says_the_same(folder: Path, tmp_path: Path, here: Here) -> None:
    with wordy_scorer() as scorer:
        _, first = evaluated(here, folder, scorer.server.url, tmp_path)
        asked = len(scorer.asked)
        shown, again = evaluated(here, folder, scorer.server.url, tmp_path)
        assert len(scorer.asked) == asked
        assert again["rankings"] == first["rankings"]
        assert (again["cost"]["scored"], again["cost"]["kept"]) == (0, first["cost"]["scored"])
        assert f"0 triples scored (0 tokens, 0 of them shared), {first['cost']['scored']} known from before" in flat(
            shown
        )
        _, other = evaluated(here, folder, scorer.server.url, tmp_path, model="other")
        assert 0 < other["cost"]["scored"] < other["cost"]["kept"]


def test_a_sample_is_said_to_be_one(folder: Path, tmp_path: Path, here: Here) -> None:
    with wordy_scorer() as scorer:
        shown, written = evaluated(here, folder, scorer.server.url, tmp_path, "--limit", "9")
    total = len(read_folder(folder / "data").triples["test"])
    assert (written["triples"], written["of_triples"], written["shares"]["valid_triples"]) == (9, total, 9)
    assert f"9 of {total} test triples, drawn at random" in flat(shown)
    assert "learned on 9 validation triples" in flat(shown)


@pytest.mark.parametrize(("texts", "told"), [("names", None), ("descriptions", "The first.")])
def test_the_scorer_is_told_what_is_wanted(
    folder: Path, tmp_path: Path, here: Here, texts: str, told: str | None
) -> None:
    with wordy_scorer() as scorer:
        evaluated(here, folder, scorer.server.url, tmp_path, "--texts", texts, "--limit", "20")
    slots = [slot for request in scorer.asked for slot in request.entities]
    assert {slot.description for slot in slots if slot.name == "one"} == {told}
    assert {slot.name for slot in slots} <= {"one", *(f"e{i:03d}" for i in range(25))} - {"e001"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--rerank", "verdict"), "--rerank needs a scorer: give its address as --scorer"),
        (("--shortlist", "5"), "--kept go with --rerank"),
        (("--rerank", "verdict", "--valid"), "leave out --valid"),
        (("--rerank", "rank"), "'rank' is not one of"),
    ],
    ids=str,
)
def test_options_that_do_not_fit_are_refused(folder: Path, here: Here, options: tuple[str, ...], message: str) -> None:
    run = here("evaluate", folder / "model", "--data", folder / "data", *options)
    assert run.returncode == 2
    assert message in " ".join(run.stderr.replace("│", " ").split())
