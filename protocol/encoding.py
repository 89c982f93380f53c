"""Messages of `/encode` and `/encode/gradient`: one hidden state a query, and what moves it."""

from typing import Annotated, Literal

from pydantic import Discriminator, Field, Tag

from protocol.messages import (
    SLOT_TENSORS,
    Index,
    Keep,
    Number,
    Provenance,
    Side,
    Slot,
    SlotGradients,
    SlotsHeader,
    Strict,
    VectorsAs,
)
from protocol.tensors import TensorSpec

NamedLayer = Literal["last", "middle"]
Layer = NamedLayer | int
ReadLayer = Annotated[
    Annotated[NamedLayer, Tag("<name>")] | Annotated[int, Field(ge=1, strict=True), Tag("<number>")],
    Discriminator(lambda layer: "<name>" if isinstance(layer, str) else "<number>"),
    Field(
        description="After which layer the state is read; later ones are not computed. `last` is after the model's "
        "final norm; a number i, from 1 on, is `hidden_states[i]` of transformers; `middle` is half of the layers."
    ),
]
StateReadout = Annotated[Literal["state"], Field(description="How the vector is read from the model.")]
Templates = Annotated[
    tuple[str, str] | None,
    Field(
        description="Templates of `/info` that ask for the tail and for the head; by default `query` and `query_head`."
    ),
]


class EncodeRequest(Strict):
    """Queries to encode: (given entity, relation) pairs, each with the side that it asks for."""

    entities: list[Slot] = Field(description="What the queries' first index points at.", min_length=1)
    relations: list[Slot] = Field(description="What the queries' second index points at.", min_length=1)
    queries: list[tuple[Index, Index]] = Field(description="[given entity, relation] indices.", min_length=1)
    sides: list[Side] | None = Field(None, description="0 asks for the tail, 1 for the head; all 0 where it is absent.")
    readout: StateReadout = "state"
    layer: ReadLayer = "last"
    templates: Templates = None
    vectors_as: VectorsAs = "input"
    keep: Keep = False


class EncodeGradientRequest(EncodeRequest):
    """The queries of an `/encode` call, and the gradient of a loss with respect to its states."""

    vectors_as: Literal["input"] = "input"
    grad_states: list[list[Number]] = Field(description="d(loss)/d(states), [q, hidden].")


class EncodeHeader(SlotsHeader):
    """The message of a safetensors body for `/encode`."""

    readout: StateReadout = "state"
    layer: ReadLayer = "last"
    templates: Templates = None
    keep: Keep = False


class EncodeGradientHeader(EncodeHeader):
    """The message of a safetensors body for `/encode/gradient`."""

    vectors_as: Literal["input"] = "input"


class EncodeReply(Provenance):
    """One hidden state a query, in the order of the request."""

    states: list[list[float]] = Field(description="Hidden states at the prompts' ends, [q, hidden].")


class EncodeGradientReply(SlotGradients):
    """Gradients with respect to the vectors sent, summed over the queries that used each."""


ENCODE_TENSORS = SLOT_TENSORS | {
    "queries": TensorSpec("I32", ("q", 2)),
    "sides": TensorSpec("U8", ("q",), optional=True),
}
ENCODE_REPLY_TENSORS = {"states": TensorSpec("F32", ("q", "hidden"))}
ENCODE_GRADIENT_TENSORS = ENCODE_TENSORS | {"grad_states": TensorSpec("F32", ("q", "hidden"))}
ENCODE_GRADIENT_REPLY_TENSORS = SLOT_TENSORS
