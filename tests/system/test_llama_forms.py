"""The forms of `llama` in federation: a coordinator, a scorer and three clients on tiny graphs, all processes."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from protocol.trainings import LocalSettings
from tests.system.conftest import CLIENTS, System
from tests.trainer.support import random_graph
from trainer.graph import write_folder
from trainer.processes import Processes
from trainer.results import read_results
from trainer.saved import read_card
from trainer.split import deal

QUICK = ("--rounds", "2", "--evaluate-every", "1", "--local-epochs", "1", "--dim", "16", "--layer", "last")


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """A coordinator and a scorer, which all the trainings here use one after the other."""
    folder = tmp_path_factory.mktemp("forms")
    with Processes(folder / "logs") as processes:
        system = System(folder, processes, data=False)
        for i, parts in enumerate(deal(random_graph(5, relations=6, triples=150), CLIENTS, seed=0)):
            write_folder(folder / "data" / f"client_{i}", parts)
            lines = [f"{name}\tthing {name[1:]}\tnumber {name} of them\n" for name in ("e001", "e002", "e003")]
            (folder / "data" / f"client_{i}" / "entities.tsv").write_text("".join(lines))
        system.start_coordinator()
        system.start_scorer()
        yield system


def asked(system: System) -> dict[str, int]:
    """How many calls of each route the scorer has answered."""
    log = (system.folder / "logs" / "scorer.log").read_text()
    routes = ("/encode", "/encode/gradient", "/score", "/score/gradient")
    return {route: log.count(f'"route": "{route}"') for route in routes}


def train(system: System, form: str, *options: str, consent: str = "none") -> tuple[LocalSettings, dict[str, int]]:
    """Train a form; its settings, and how often the scorer was asked for it."""
    before = asked(system)
    system.start_training("llama", *QUICK, *options)
    clients = [system.start_client(i, "--texts", consent, log=f"{form}-{i}") for i in range(CLIENTS)]
    system.wait(clients)
    (training, *_) = system.rounds().trainings
    assert training.phase == "finished"
    for i in range(CLIENTS):
        (folder,) = system.folder.glob(f"homes/client_{i}/*/{training.training}")
        assert [r.mode for r in read_results(folder / "results.json")] == ["isolation", "federation", "fusion"]
    return training.settings.local, {route: count - before[route] for route, count in asked(system).items()}


def cards(system: System) -> list[Path]:
    (training, *_) = system.rounds().trainings
    return sorted(system.folder.glob(f"homes/*/*/{training.training}/federation"))


def test_names_and_vectors(running: System) -> None:
    local, calls = train(running, "names", "--texts", "names", consent="descriptions")
    assert (local.texts, local.vectors) == ("names", True)
    assert calls["/encode/gradient"] > 0
    texts = read_card(cards(running)[0]).texts
    assert texts is not None
    assert "thing 001" in [text.label for text in texts.entities]
    assert {text.description for text in texts.entities} == {None}


def test_words_alone_are_read_once(running: System) -> None:
    options = ("--texts", "descriptions", "--no-vectors")
    local, calls = train(running, "words", *options, consent="descriptions")
    assert not local.vectors
    assert (calls["/encode/gradient"], calls["/encode"]) == (0, CLIENTS)
    assert len([*running.folder.glob("homes/*/states-*.safetensors")]) == CLIENTS
    _, calls = train(running, "words-again", *options, consent="descriptions")
    assert set(calls.values()) == {0}


def test_a_local_adapter_never_leaves_its_client(running: System) -> None:
    local, _ = train(running, "local", "--adapter", "local")
    assert local.adapter == "local"
    model = running.model()
    header = json.loads(model[8 : 8 + int.from_bytes(model[:8], "little")])
    assert header.keys() == {"__metadata__", "entities", "entity_keys"}
    own = next(path for path in running.folder.glob("homes/*/*/*/own-*.safetensors") if b"adapter" in path.read_bytes())
    assert b"relations" in own.read_bytes()


def test_triples_are_scored_one_by_one(running: System) -> None:
    local, calls = train(running, "verdict", "--readout", "verdict")
    assert local.readout == "verdict"
    assert calls["/score/gradient"] > 0
    assert calls["/score"] > 0
    assert calls["/encode"] == 0


def test_the_control_without_layers_asks_the_scorer_nothing(running: System) -> None:
    local, calls = train(running, "layerless", "--layer", "none")
    assert local.layer == "none"
    assert set(calls.values()) == {0}


def test_a_client_sends_no_more_words_than_it_agreed_to(running: System) -> None:
    running.start_training("llama", *QUICK, "--texts", "descriptions")
    client = running.start_client(0, "--texts", "names", log="refused")
    assert client.process.wait(60) == 2
    said = client.log.read_text()
    assert "sends the scorer descriptions, and this client agreed to names" in said
    assert "--texts descriptions" in said
    running.processes.children.remove(client)
