"""A stand-in for the frozen LLaMA: a small differentiable function of the slots that a query names."""

import numpy as np
import torch
from torch import Tensor

from trainer.interactions.llama_calls import EncoderCall, Floats

HIDDEN = 5


class TinyEncoder:
    """state = tanh(sum over slots of entity @ A_slot + relation @ B_slot + the side's bias)."""

    hidden = HIDDEN

    def __init__(self, slots: int) -> None:
        generator = torch.Generator().manual_seed(7)
        self.entity = torch.randn(slots, HIDDEN, HIDDEN, generator=generator) / 3
        self.relation = torch.randn(slots, HIDDEN, HIDDEN, generator=generator) / 3
        self.side = torch.randn(2, HIDDEN, generator=generator)
        self.calls: list[EncoderCall] = []

    def states(self, entities: Tensor, relations: Tensor, queries: Tensor, sides: Tensor) -> Tensor:
        """The function itself, in the dtype that it is given."""
        dtype = entities.dtype
        mixed = torch.einsum("qkh,khj->qj", entities[queries[:, 0]], self.entity.to(dtype))
        mixed = mixed + torch.einsum("qkh,khj->qj", relations[queries[:, 1]], self.relation.to(dtype))
        return torch.tanh(mixed + self.side.to(dtype)[sides])

    def encode(self, call: EncoderCall, keep: bool = False) -> Floats:
        """As the scorer's `/encode`."""
        self.calls.append(call)
        return self._run(call)[0].detach().numpy()

    def gradient(self, call: EncoderCall, grad_states: Floats) -> tuple[Floats, Floats]:
        """As the scorer's `/encode/gradient`."""
        self.calls.append(call)
        states, entities, relations = self._run(call)
        states.backward(torch.from_numpy(grad_states))
        assert entities.grad is not None
        assert relations.grad is not None
        return entities.grad.numpy(), relations.grad.numpy()

    def _run(self, call: EncoderCall) -> tuple[Tensor, Tensor, Tensor]:
        entities = torch.from_numpy(call.entities.vectors.copy()).requires_grad_()
        relations = torch.from_numpy(call.relations.vectors.copy()).requires_grad_()
        queries, sides = (torch.from_numpy(c.astype(np.int64)) for c in (call.queries, call.sides))
        with torch.enable_grad():
            return self.states(entities, relations, queries, sides), entities, relations
