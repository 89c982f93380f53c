"""Default settings of a training by interaction. Each line that departs from the protocol's default has its reason."""

from typing import Any

from protocol.trainings import InteractionName, LocalSettings, ScorerIdentity, TrainingSettings
from trainer.interactions import interaction_of
from trainer.interactions.llama import Encoder
from trainer.sharing import relation_columns

LOCAL: dict[InteractionName, LocalSettings] = {
    "transe": LocalSettings(learning_rate=5e-3, batch_size=128),
    "distmult": LocalSettings(learning_rate=1e-2, dropout=0.3),
    "complex": LocalSettings(learning_rate=1e-2, dropout=0.3),
    "rotate": LocalSettings(learning_rate=5e-3, batch_size=128),
    "mlp": LocalSettings(learning_rate=1e-3, dropout=0.3, batch_size=128),
    # Several vectors a slot and dropout matter more to a frozen LLaMA than its width or depth. An optimiser that starts
    # anew each round makes long first steps; a falling rate gained about 0.02 MRR in federation on UMLS.
    # The middle layers of a large model say more about a triple than its last ones, at half the cost (Xue et al., 2024,
    # arXiv:2408.06787).
    "llama": LocalSettings(
        learning_rate=3e-3, linear_decay=True, dropout=0.3, batch_size=128, vectors_per_slot=4, layer="middle"
    ),
}

# The rate falls over these rounds, so they are the training's length. Dropout makes validation noisy: a short patience
# would stop before the rate is low.
SCHEDULES: dict[InteractionName, dict[str, int]] = {"llama": {"rounds": 60, "patience": 6}}


def training_settings(
    interaction: InteractionName, encoder: Encoder | None, scorer: ScorerIdentity | None, **changes: Any
) -> TrainingSettings:
    """The settings of a training with this interaction: its preset, the shapes that it shares, and the given changes.

    Args:
        interaction: Its name.
        encoder: Needed by `llama`, whose adapter has the model's hidden size.
        scorer: Needed by `llama`: the scorer that the training is fixed to.
        changes: Fields of `TrainingSettings`; `local` is taken whole.

    Raises:
        pydantic.ValidationError: A change is out of bounds.
    """
    local = changes.pop("local", None) or LOCAL[interaction]
    dim = changes.pop("dim", None) or 256
    changes = SCHEDULES.get(interaction, {}) | changes
    made = interaction_of(interaction, encoder)
    if changes.get("share", "entities") != "entities":
        init = changes.get("entity_init", TrainingSettings.model_fields["entity_init"].default)
        rows = {"relation_dim": relation_columns(made, dim), "relation_init": made.relation_bound(init)}
        changes = rows | changes
    dense = made.dense(dim, local)
    return TrainingSettings(interaction=interaction, dim=dim, dense=dense, scorer=scorer, local=local, **changes)
