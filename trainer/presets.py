"""A training's settings made of a preset: the shapes that follow from the interaction, and what its user changes."""

from typing import Any

from protocol.presets import DEFAULT
from protocol.trainings import InteractionName, LocalSettings, ScorerIdentity, TrainingSettings
from trainer.interactions import FrozenModel, interaction_of
from trainer.sharing import relation_columns, shared_dense

Changes = dict[str, Any]
POINTWISE: Changes = {"batch_size": 32, "negatives": 16}
"""Of readouts of triples, each of which is a prompt: a step of some 500 of them."""


def llama_changes(given: Changes) -> Changes:
    """What the form of `llama` that is given changes in its preset."""
    changes: Changes = {"vectors_per_slot": 1} if given.get("adapter") == "none" else {}
    return changes | (POINTWISE if given.get("readout", "state") != "state" else {})


def training_settings(
    interaction: InteractionName, model: FrozenModel | None, scorer: ScorerIdentity | None, **changes: Any
) -> TrainingSettings:
    """The settings of a training with this interaction: its shapes, and the given changes to the protocol's defaults.

    Args:
        interaction: Its name.
        model: Needed by `llama`, whose adapter has its hidden size.
        scorer: Needed by `llama`: the scorer that the training is fixed to.
        changes: Fields of `TrainingSettings`; the default preset stands for what is not given, `local` is taken whole.

    Raises:
        pydantic.ValidationError: A change is out of bounds.
    """
    local: LocalSettings = changes.get("local", DEFAULT[interaction].local)
    dim = model.hidden if model and local.adapter == "none" else 256
    changes = {**DEFAULT[interaction].training, "dim": dim, "local": local} | changes
    made, dim = interaction_of(interaction, model, local), changes["dim"]
    if changes.get("share", "entities") != "entities":
        init = changes.get("entity_init", TrainingSettings.model_fields["entity_init"].default)
        rows = {"relation_dim": relation_columns(made, dim), "relation_init": made.relation_bound(init)}
        changes = rows | changes
    dense = shared_dense(made, dim, local)
    return TrainingSettings(interaction=interaction, dense=dense, scorer=scorer, **changes)
