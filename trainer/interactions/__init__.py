"""The interactions, one a file, each beside the paper it comes from."""

import torch

from protocol.trainings import InteractionName, LocalSettings
from trainer.interactions.base import Batch, Dropout, Interaction, Tables
from trainer.interactions.complex import ComplEx
from trainer.interactions.distmult import DistMult
from trainer.interactions.llama import Encoder, Llama
from trainer.interactions.mlp import MLP
from trainer.interactions.rotate import RotatE
from trainer.interactions.transe import TransE

CLASSIC: dict[str, type[Interaction]] = {
    "transe": TransE,
    "distmult": DistMult,
    "complex": ComplEx,
    "rotate": RotatE,
    "mlp": MLP,
}


DEFAULT = LocalSettings()


def interaction_of(
    name: InteractionName, encoder: Encoder | None = None, local: LocalSettings = DEFAULT, device: str = "cpu"
) -> Interaction:
    """The interaction of that name, as a training's local settings have it.

    Args:
        name: Of the interaction.
        encoder: What `llama` asks.
        local: Says whether relations have reciprocal ones, and after which layer `llama` is read.
        device: Where the model's tensors are to be, as torch names it.
    """
    if name == "llama":
        if encoder is None:
            raise ValueError("the interaction `llama` needs a scorer")
        made: Interaction = Llama(encoder, local.layer)
    else:
        made = CLASSIC[name]()
    made.reciprocal = made.reciprocal or local.reciprocal
    made.device = torch.device(device)
    return made


__all__ = ["CLASSIC", "Batch", "Dropout", "Encoder", "Interaction", "Llama", "Tables", "interaction_of"]
