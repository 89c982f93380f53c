"""The interactions, one a file, each beside the paper it comes from."""

import torch

from protocol.trainings import InteractionName, LocalSettings
from trainer.interactions.base import Batch, Dropout, Interaction, QueryInteraction, Tables
from trainer.interactions.complex import ComplEx
from trainer.interactions.distmult import DistMult
from trainer.interactions.llama import Llama
from trainer.interactions.llama_calls import FrozenModel
from trainer.interactions.llama_layerless import LayerlessLlama
from trainer.interactions.llama_pointwise import PointwiseLlama
from trainer.interactions.llama_words import WordLlama
from trainer.interactions.mlp import MLP
from trainer.interactions.rotate import RotatE
from trainer.interactions.transe import TransE
from trainer.prompting import Prompting

CLASSIC: dict[str, type[QueryInteraction]] = {
    "transe": TransE,
    "distmult": DistMult,
    "complex": ComplEx,
    "rotate": RotatE,
    "mlp": MLP,
}


DEFAULT = LocalSettings()


def interaction_of(
    name: InteractionName,
    model: FrozenModel | None = None,
    local: LocalSettings = DEFAULT,
    device: str = "cpu",
    prompting: Prompting | None = None,
) -> Interaction:
    """The interaction of that name, as a training's local settings have it.

    Args:
        name: Of the interaction.
        model: What `llama` asks.
        local: Says whether relations have reciprocal ones, and which form of `llama` it is.
        device: Where the model's tensors are to be, as torch names it.
        prompting: What prompts of `llama` are made with; not needed for the shapes of its tensors.
    """
    if name == "llama":
        if model is None:
            raise ValueError("the interaction `llama` needs a scorer")
        made: Interaction = _llama(local)(model, local, prompting)
    else:
        made = CLASSIC[name]()
    made.reciprocal = made.reciprocal or local.reciprocal
    made.device = torch.device(device)
    return made


def _llama(local: LocalSettings) -> type[Llama] | type[PointwiseLlama]:
    """The form of `llama` that the settings name."""
    if local.readout != "state":
        return PointwiseLlama
    if local.layer == "none":
        return LayerlessLlama
    return Llama if local.vectors else WordLlama


__all__ = [
    "CLASSIC",
    "Batch",
    "Dropout",
    "FrozenModel",
    "Interaction",
    "Llama",
    "PointwiseLlama",
    "QueryInteraction",
    "Tables",
    "interaction_of",
]
