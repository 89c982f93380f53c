"""A client with each form of `llama`, killed on its way: real scorer, stand-in of the coordinator."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from protocol.trainings import LocalSettings, TrainingSettings
from tests.scorer.serving import Served, served
from trainer.clients.service import Service
from trainer.graph import Graph
from trainer.interactions import Interaction, interaction_of
from trainer.membership import opaque_order
from trainer.presets import training_settings
from trainer.prompting import prompting_of
from trainer.remote_model import RemoteModel
from trainer.reports import unheard

from .stand_in import coordinator
from .support import random_graph
from .test_federation import KEY, Run, interrupt

FORMS: dict[str, dict[str, object]] = {
    "names and vectors": {"texts": "names"},
    "words alone": {"texts": "anonymised", "vectors": False},
    "a local adapter": {"adapter": "local"},
    "a verdict a triple": {"readout": "verdict", "negatives": 3},
}


@pytest.fixture(scope="module")
def scorer() -> Iterator[Served]:
    """Merged calls would let the last bits depend on who else calls."""
    with served(random_hidden=16, merge=False) as running:
        yield running


@pytest.fixture
def client(scorer: Served) -> Iterator[RemoteModel]:
    with Service("scorer", str(scorer.base_url), None, print, give_up_after=20) as service:
        yield RemoteModel(service)


def run_in(folder: Path, graph: Graph, client: RemoteModel) -> Run:
    def made(settings: TrainingSettings) -> Interaction:
        assert settings.scorer is not None
        client.require(settings.scorer, settings.local)
        prompting = prompting_of(settings, opaque_order(graph, KEY), [], folder, unheard, unheard)
        return interaction_of("llama", client, settings.local, prompting=prompting)

    return Run(folder, graph, made=made, consent="names")


@pytest.mark.parametrize("form", FORMS)
def test_interrupted_it_sends_the_same_updates(tmp_path: Path, client: RemoteModel, form: str) -> None:
    graph = random_graph(1, entities=6, relations=2, triples=30)
    common = {"local_epochs": 2, "batch_size": 16, "learning_rate": 0.02, "dropout": 0.3}
    local = LocalSettings.model_validate(common | FORMS[form])
    settings = training_settings(
        "llama", client, client.identity(local), dim=8, local=local, rounds=3, evaluate_every=2, patience=9
    )
    with coordinator(settings) as stand_in:
        undisturbed = run_in(tmp_path / "a", graph, client).start(stand_in)
        expected = stand_in.updates
    with coordinator(settings) as stand_in:
        run = run_in(tmp_path / "b", graph, client)
        run.doing = interrupt(2, 4, 7)
        results, interrupted = run.until_it_ends(stand_in)
        assert stand_in.updates == expected
    assert (interrupted, sorted(expected)) == (3, [1, 2, 3])
    assert results == undisturbed
