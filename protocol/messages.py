"""What the scorer's messages are made of: slots, sides, and what a reply says of its origin.

Each route reads and writes the same content in two forms: JSON for people, safetensors for programs. In `scoring`,
`encoding` and `ranking` the JSON models are the first; the `…_TENSORS`, with the `…Header` models as message, are the
second.

Shapes: n entities, m relations, k vectors a slot, `hidden` the model's hidden size, t triples, q queries.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from protocol.tensors import TensorSpec

TAIL, HEAD = 0, 1
"""The side that a query asks for: (head, relation, ?) or (?, relation, tail)."""

Row = Annotated[int, Field(ge=0)]
Index = Annotated[int, Field(ge=0, strict=True)]
Side = Annotated[int, Field(ge=0, le=1, strict=True)]
Number = Annotated[float, Field(strict=True)]
"""Strict: `true` and `"1"` are no numbers."""
Name = Annotated[str, Field(min_length=1, max_length=1_000)]

ScoreReadout = Literal["verdict", "likelihood", "number"]
Readout = Literal["state", "verdict", "likelihood", "number"]
"""How a number or a vector is taken from the model's output."""


class Strict(BaseModel):
    """A message in which an unknown field is an error, so that a misspelt one is not silently ignored."""

    model_config = ConfigDict(extra="forbid")


class Text(Strict):
    """What a slot says in words."""

    name: Name | None = Field(None, examples=["aspirin"])
    description: str | None = Field(
        None, min_length=1, max_length=10_000, description="Follows the name, cut to the scorer's budget of tokens."
    )


class Slot(Text):
    """An entity or a relation: text, trained vectors, or both. Vectors follow the text in the prompt."""

    vectors: list[list[Number]] | None = Field(
        None, description="[k, hidden], k >= 1: vectors put into the model's input as they are.", min_length=1
    )

    @model_validator(mode="after")
    def _holds_something(self) -> "Slot":
        if self.name is None and self.description is None and self.vectors is None:
            raise ValueError("give at least one of name, description and vectors")
        return self


class RowText(Text):
    """The text of one row; `text_only` leaves the row's vectors out of the prompt."""

    text_only: bool = False


VectorsAs = Annotated[
    Literal["input", "numbers"],
    Field(
        description="`input` puts vectors into the model's input; `numbers` writes them into the prompt, rounded: the "
        "only way to show one to a chat model, and without a gradient."
    ),
]


Keep = Annotated[
    bool, Field(description="Keep what the forward pass computed for this call's gradient call, for a few seconds.")
]


class SlotsHeader(Strict):
    """What every safetensors body says beside its tensors."""

    entity_texts: dict[Row, RowText] = Field({}, description="Texts by row of `entities`.")
    relation_texts: dict[Row, RowText] = Field({}, description="Texts by row of `relations`.")
    vectors_as: VectorsAs = "input"


SLOT_TENSORS = {
    "entities": TensorSpec("F32", ("n", "k", "hidden"), optional=True),
    "relations": TensorSpec("F32", ("m", "l", "hidden"), optional=True),
}
"""Vectors as they are sent, and gradients as they come back."""


class Usage(Strict):
    """What a call cost."""

    prompts: int = Field(description="Prompts that were scored or encoded.")
    tokens: int = Field(description="Positions in those prompts, vectors included.")
    shared_tokens: int = Field(description="Positions whose computation was reused rather than run again.")


class Provenance(Strict):
    """What made a reply, so that numbers can be traced and two scorers compared."""

    model: str = Field(description="The loaded model, as set.")
    revision: str = Field(description="The exact weights: a hub commit, or a digest of the weights.")
    template: str = Field(description="The template used; `state` readouts name both sides' templates.")
    template_hash: str = Field(description="SHA-256 of the template; over both of them where both are named.")
    readout: Readout
    usage: Usage


class SlotGradients(Provenance):
    """Gradients with respect to the vectors sent, summed over the prompts that used each."""

    entities: list[list[list[float]]] = Field(description="d(loss)/d(entity vectors): a [k, hidden] list an entity.")
    relations: list[list[list[float]]] = Field(description="The same for the relations.")
