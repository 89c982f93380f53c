"""The interactions, one a file, each beside the paper it comes from."""

from protocol.encoding import Layer
from protocol.trainings import InteractionName
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


def interaction_of(name: InteractionName, encoder: Encoder | None = None, layer: Layer = "last") -> Interaction:
    """The interaction of that name; `llama` needs the encoder that it asks, and the layer after which it is read."""
    if name == "llama":
        if encoder is None:
            raise ValueError("the interaction `llama` needs a scorer")
        return Llama(encoder, layer)
    return CLASSIC[name]()


__all__ = ["CLASSIC", "Batch", "Dropout", "Encoder", "Interaction", "Llama", "Tables", "interaction_of"]
