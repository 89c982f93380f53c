from pathlib import Path
from typing import Any

import pytest

from protocol.presets import DEFAULT, FEDE_LOCAL
from protocol.trainings import LONGEST_DEADLINE
from services.coordinator.rounds.lifecycle import goal_size
from trainer.devices import DeviceMissing
from trainer.experiments.data import Clients
from trainer.experiments.plan import Run, plan
from trainer.experiments.schema import Experiment
from trainer.inputs import UsageError


def clients(digest: str = "d") -> Clients:
    return Clients({"client_0": Path("a"), "client_1": Path("b")}, digest)


def runs(data: Clients | None = None, **changes: Any) -> list[Run]:
    described = {"name": "one", "data": {"a": {"folder": "d"}}, "variants": {"t": {"interaction": "transe"}}}
    experiment = Experiment.model_validate(described | changes)
    return plan(experiment, {("a", seed): data or clients() for seed in experiment.seeds}, None)


@pytest.mark.parametrize(
    ("modes", "kinds"),
    [
        (["isolation", "collection", "federation", "fusion"], [("federated", 3), ("collection", 1)]),
        (["federation"], [("federation", 1)]),
        (["collection", "federation"], [("collection", 1), ("federation", 1)]),
        (["fusion"], [("federated", 1)]),
        (["isolation", "federation"], [("federated", 2)]),
        (["collection"], [("collection", 1)]),
        (["isolation", "collection"], [("isolation", 1), ("collection", 1)]),
    ],
)
def test_nothing_runs_that_no_mode_needs(modes: list[str], kinds: list[tuple[str, int]]) -> None:
    assert [(run.kind, len(run.modes)) for run in runs(modes=modes)] == kinds


def test_settings_are_the_preset_with_the_changes_and_all_clients_are_waited_for() -> None:
    (run,) = runs(variants={"t": {"interaction": "rotate", "dim": 8, "local": {"margin": 3}}}, modes=["fusion"])
    assert run.settings.local == DEFAULT["rotate"].local.model_copy(update={"margin": 3.0})
    assert (run.settings.dim, run.settings.clients, run.settings.quorum) == (8, 2, 2)
    assert run.settings.deadline_seconds == LONGEST_DEADLINE


@pytest.mark.parametrize(
    ("changes", "quorum"), [({}, 10), ({"fraction": 0.3}, 3), ({"fraction": 0.25}, 3), ({"quorum": 2}, 2)]
)
def test_as_many_answers_are_waited_for_as_a_round_asks(changes: dict[str, Any], quorum: int) -> None:
    ten = Clients({f"client_{i}": Path("a") for i in range(10)}, "d")
    (run,) = runs(ten, variants={"t": {"interaction": "transe"} | changes}, modes=["fusion"])
    assert (run.settings.clients, run.settings.quorum) == (10, quorum)
    assert goal_size(10, run.settings) == (10 if changes == {"quorum": 2} else quorum)


def test_every_variant_comes_before_the_next_seed() -> None:
    variants = {name: {"interaction": "transe"} for name in ("v", "w")}
    found = runs(variants=variants, seeds=[4, 3], modes=["fusion"])
    assert [(run.seed, run.variant) for run in found] == [(4, "v"), (4, "w"), (3, "v"), (3, "w")]


def test_whatever_decides_a_result_makes_another_run() -> None:
    plain: dict[str, Any] = {"variants": {"t": {"interaction": "transe"}}, "modes": ["fusion"]}
    folders = {
        runs(**plain)[0].folder,
        runs(**plain | {"seeds": [1]})[0].folder,
        runs(**plain | {"modes": ["isolation"]})[0].folder,
        runs(**plain | {"variants": {"t": {"interaction": "transe", "local": {"margin": 3}}}})[0].folder,
        runs(clients("other"), **plain)[0].folder,
    }
    assert len(folders) == 5
    assert runs(**plain)[0].folder in folders
    assert all(folder.startswith("a-t-seed") for folder in folders)


def test_a_variant_may_begin_with_fede_s_preset() -> None:
    (run,) = runs(variants={"t": {"interaction": "rotate", "preset": "fede", "dim": 32}}, modes=["fusion"])
    assert (run.settings.local, run.settings.dim, run.settings.patience) == (FEDE_LOCAL, 32, 15)
    with pytest.raises(UsageError, match=r"variants\.t: preset: FedE was published with"):
        runs(variants={"t": {"interaction": "mlp", "preset": "fede"}})


def test_a_device_that_is_not_there_is_refused() -> None:
    with pytest.raises(DeviceMissing, match="'meta-physical' cannot be used"):
        runs(variants={"t": {"interaction": "transe", "device": "meta-physical"}})


def test_settings_that_do_not_fit_together_name_the_variant() -> None:
    with pytest.raises(UsageError, match=r"variants\.t: dim: `complex` .* dim must be even"):
        runs(variants={"t": {"interaction": "complex", "dim": 3}})
