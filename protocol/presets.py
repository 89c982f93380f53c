"""Settings to begin a training with, by interaction: ours, and those that FedE was published with.

The command line and the coordinator's page begin with the same ones.

Each line that departs from the protocol's default has its reason.
"""

from dataclasses import dataclass, field
from typing import Any, Literal

from protocol.trainings import InteractionName, LocalSettings

PresetName = Literal["default", "fede"]


@dataclass(frozen=True)
class Preset:
    """Settings to begin with.

    Attributes:
        local: How clients train.
        training: Other fields of `TrainingSettings`.
    """

    local: LocalSettings
    training: dict[str, Any] = field(default_factory=dict)


DEFAULT: dict[InteractionName, Preset] = {
    # Of six trials each (experiments/trials.yaml: losses, dropout, rates; reciprocal relations) on UMLS dealt to
    # three clients, those with the best validation MRR in federation.
    "transe": Preset(LocalSettings(learning_rate=1e-2, dropout=0.3, reciprocal=True, batch_size=128)),
    "distmult": Preset(LocalSettings(learning_rate=3e-3, dropout=0.3, batch_size=128)),
    "complex": Preset(LocalSettings(learning_rate=1e-2, dropout=0.3, batch_size=128)),
    "rotate": Preset(LocalSettings(loss="self_adversarial", learning_rate=1e-2, reciprocal=True, batch_size=512)),
    "mlp": Preset(LocalSettings(learning_rate=3e-3, batch_size=128)),
    # The best of the same six trials, after the first layer of the embedded model, with four vectors a slot (one is
    # level with them on UMLS: docs/results.md). An optimiser that starts anew each round makes long first steps; a
    # falling rate gained about 0.02 MRR in federation on UMLS. The rate falls over the rounds, so they are the
    # training's length; dropout makes validation noisy, and a short patience would stop before the rate is low.
    # The middle layers of a large model say more about a triple than its last ones, at half the cost (Xue et al., 2024,
    # arXiv:2408.06787).
    "llama": Preset(
        LocalSettings(
            learning_rate=3e-3, linear_decay=True, dropout=0.3, batch_size=128, vectors_per_slot=4, layer="middle"
        ),
        {"rounds": 60, "patience": 6},
    ),
}

FEDE_LOCAL = LocalSettings(
    loss="self_adversarial",
    learning_rate=1e-3,
    batch_size=512,
    local_epochs=3,
    sides="tail",
    negatives=256,
    sampling="own",
    margin=10.0,
    temperature=1.0,
)
"""Of the published code (Chen et al., 2021): 256 filtered tail negatives of each triple's own."""
FEDE_COLUMNS: dict[InteractionName, int] = {"transe": 128, "distmult": 128, "complex": 256, "rotate": 256}
"""128 numbers an entity, complex ones where the interaction has them."""
FEDE_TRAINING = {"entity_init": (10 + 2) / 128, "rounds": 1000, "evaluate_every": 5, "patience": 15}
"""Rows start within (gamma + epsilon) / dim. The published limit of rounds is 10,000, which no run comes near."""


def preset_of(name: PresetName, interaction: InteractionName) -> Preset:
    """The preset of that name for an interaction.

    Raises:
        ValueError: There is none.
    """
    if name == "default":
        return DEFAULT[interaction]
    if interaction not in FEDE_COLUMNS:
        raise ValueError(
            f"preset: FedE was published with {', '.join(FEDE_COLUMNS)}; `{interaction}` has `default` alone"
        )
    return Preset(FEDE_LOCAL, FEDE_TRAINING | {"dim": FEDE_COLUMNS[interaction]})
