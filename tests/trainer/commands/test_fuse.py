import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from protocol.trainings import InteractionName
from tests.trainer.support import Run, random_graph, small_settings
from trainer.fusion import fit
from trainer.graph import Graph, read_folder, write_folder
from trainer.interactions import interaction_of
from trainer.local import train_alone
from trainer.model import Model
from trainer.ranking import Scorer, known_answers, rank
from trainer.saved import FusedCard, read_card, save_model

Here = Callable[..., Run]


def trained(folder: Path, graph: Graph, name: InteractionName) -> Scorer:
    """A model of a few epochs, saved."""
    settings = small_settings(name, rounds=20, evaluate_every=20, local={"learning_rate": 0.05})
    interaction = interaction_of(name)
    state = dict(train_alone(graph, interaction, settings, 0, lambda text: None).state)
    save_model(folder, graph, "isolation", settings, state)
    return Model.of_state(interaction, state).rank_scores


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fuse") / "data"
    graph = random_graph(3, entities=20, triples=400)
    write_folder(folder, {split: graph.named(split) for split in graph.triples})
    return folder


@pytest.fixture(scope="module")
def models(data: Path) -> dict[str, Scorer]:
    graph = read_folder(data)
    return {name: trained(data.parent / name, graph, name) for name in ("transe", "distmult")}


def rows(shown: str) -> list[list[str]]:
    lines = [line.replace("│", " ").split() for line in shown.splitlines()]
    return [cells for cells in lines if len(cells) > 2 and cells[-1].startswith(("0.", "1."))]


def test_two_models_are_fused_measured_and_used(
    data: Path, models: dict[str, Scorer], tmp_path: Path, here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(data.parent)
    graph, out = read_folder(data), tmp_path / "fused"
    run = here("fuse", "transe", "distmult", "--data", "data", "--out", out)
    assert run.returncode == 0, run.stderr

    fusion = fit(graph, *models.values())
    scorers = {**models, "fused": fusion.scorer(*models.values())}
    metrics = [
        rank(graph.triples["test"], known_answers(graph, "test"), scorer).metrics()["both"]
        for scorer in scorers.values()
    ]
    assert [row[-5:] for row in rows(run.stdout)] == [
        [f"{m.model_dump()[name]:.3f}" for name in ("mrr", "hits@1", "hits@3", "hits@5", "hits@10")] for m in metrics
    ]
    assert f"share of distmult: {fusion.weights[0, 1]:.2f} of tails" in run.stdout

    written = json.loads(here("evaluate", out, "--data", data, "--json").stdout)
    assert (written["interaction"], written["mode"]) == ("transe + distmult", "fusion")
    assert written["sides"]["both"] == metrics[-1].model_dump()
    head, relation, _ = graph.named("train")[0]
    assert here("predict", out, "--head", head, "--relation", relation).returncode == 0


def test_the_fused_model_names_its_parts_from_where_it_is(
    data: Path, models: dict[str, Scorer], tmp_path: Path, here: Here
) -> None:
    out = data.parent / "deep" / "fused"
    assert here("fuse", data.parent / "transe", data.parent / "distmult", "--data", data, "--out", out).returncode == 0
    card = read_card(out)
    assert isinstance(card, FusedCard)
    assert card.parts == ("../../transe", "../../distmult")
    np.testing.assert_allclose(np.sum(card.weights, axis=1), 1, atol=1e-6)


def test_models_of_another_graph_are_not_fused(
    data: Path, models: dict[str, Scorer], tmp_path: Path, here: Here
) -> None:
    other = random_graph(4, entities=21, triples=400)
    trained(tmp_path / "other", other, "distmult")
    run = here("fuse", data.parent / "transe", tmp_path / "other", "--data", data, "--out", tmp_path / "o")
    assert run.returncode == 2
    assert (
        f"{tmp_path / 'other'}: 1 entities are known to this model or to the data alone, 'e020' for one" in run.stderr
    )
    assert not (tmp_path / "o").exists()


def test_no_model_is_written_over(data: Path, models: dict[str, Scorer], here: Here) -> None:
    before = (data.parent / "transe" / "model.json").read_bytes()
    arguments = (data.parent / "transe", data.parent / "distmult", "--data", data, "--out", data.parent / "transe")
    run = here("fuse", *arguments)
    assert run.returncode == 2
    assert "holds a model already" in run.stderr
    assert (data.parent / "transe" / "model.json").read_bytes() == before


def test_without_validation_triples_both_weigh_the_same_and_it_is_said(
    data: Path, models: dict[str, Scorer], tmp_path: Path, here: Here
) -> None:
    graph = read_folder(data)
    write_folder(tmp_path / "data", {"train": graph.named("train")})
    arguments = (data.parent / "transe", data.parent / "distmult", "--data", tmp_path / "data")
    run = here("fuse", *arguments, "--out", tmp_path / "fused")
    assert run.returncode == 0
    assert "no validation triples to learn from: both models weigh the same" in run.stdout
    assert "no test triples to rank" in run.stdout
    card = read_card(tmp_path / "fused")
    assert isinstance(card, FusedCard)
    assert card.weights == ((0.5, 0.5), (0.5, 0.5))
