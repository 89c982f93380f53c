from typing import get_args

import pytest
from pydantic import ValidationError

from protocol.presets import DEFAULT
from protocol.trainings import InteractionName, LocalSettings, ScorerIdentity, TrainingSettings
from trainer.interactions import FrozenModel, interaction_of
from trainer.presets import llama_changes, training_settings

from .encoders import HIDDEN, TinyEncoder

NAMES: tuple[InteractionName, ...] = get_args(InteractionName)
IDENTITY = ScorerIdentity(model="tiny", revision="r1", dtype="float32", query_hash="q1", hidden=HIDDEN)


def needs(name: InteractionName) -> tuple[FrozenModel | None, ScorerIdentity | None]:
    return (TinyEncoder(1), IDENTITY) if name == "llama" else (None, None)


def test_every_interaction_has_a_preset() -> None:
    assert set(DEFAULT) == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_preset_is_a_training_that_a_coordinator_accepts(name: InteractionName) -> None:
    settings = training_settings(name, *needs(name))
    assert TrainingSettings.model_validate_json(settings.model_dump_json()) == settings
    assert (settings.interaction, settings.dim, settings.local) == (name, 256, DEFAULT[name].local)
    assert settings.scorer == needs(name)[1]


@pytest.mark.parametrize("name", NAMES)
def test_dense_tensors_are_those_of_the_interaction_at_the_given_size(name: InteractionName) -> None:
    encoder, scorer = needs(name)
    local = LocalSettings(vectors_per_slot=3)
    settings = training_settings(name, encoder, scorer, dim=32, local=local, rounds=7)
    assert settings.dense == interaction_of(name, encoder).dense(32, local)
    assert (settings.dim, settings.local, settings.rounds) == (32, local, 7)
    assert bool(settings.dense) == (name in ("mlp", "llama"))
    if name == "llama":
        assert settings.dense["adapter.entity"].shape == [3 * HIDDEN, 32]


def test_a_change_out_of_bounds_is_refused() -> None:
    with pytest.raises(ValidationError, match="rounds"):
        training_settings("transe", None, None, rounds=0)
    with pytest.raises(ValidationError, match="dim"):
        training_settings("complex", None, None, dim=5)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"adapter": "none"}, {"vectors_per_slot": 1}),
        ({"readout": "verdict"}, {"batch_size": 32, "negatives": 16, "vectors_per_slot": 4}),
        ({"readout": "number", "negatives": 3}, {"batch_size": 32, "negatives": 3}),
        ({"texts": "names", "vectors": False}, {"batch_size": 128, "layer": "middle"}),
    ],
)
def test_a_form_of_llama_fits_its_preset(given: dict[str, object], expected: dict[str, object]) -> None:
    base = DEFAULT["llama"].local.model_dump() | llama_changes(given) | given
    local = LocalSettings.model_validate(base)
    assert {name: getattr(local, name) for name in expected} == expected
    settings = training_settings("llama", TinyEncoder(1), IDENTITY, local=local)
    assert settings.dim == (HIDDEN if local.adapter == "none" else 256)
