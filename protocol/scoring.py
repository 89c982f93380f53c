"""Messages of the scorer: `/score`, `/encode`, `/encode/gradient` and `/info`.

Each route reads and writes the same content in two forms: JSON for people, safetensors for programs. The JSON models
here are the first; `SCORE_TENSORS` and its neighbours, with the `…Header` models as message, are the second.

Shapes: n entities, m relations, k vectors a slot, `hidden` the model's hidden size, t triples, q queries.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, field_validator, model_validator

from protocol.tensors import TensorSpec

TAIL, HEAD = 0, 1
"""The side that a query asks for: (head, relation, ?) or (?, relation, tail)."""

Row = Annotated[int, Field(ge=0)]
Index = Annotated[int, Field(ge=0, strict=True)]
Side = Annotated[int, Field(ge=0, le=1, strict=True)]
Number = Annotated[float, Field(strict=True)]
"""Strict: `true` and `"1"` are no numbers."""


class Strict(BaseModel):
    """A message in which an unknown field is an error, so that a misspelt one is not silently ignored."""

    model_config = ConfigDict(extra="forbid")


class Text(Strict):
    """What a slot says in words."""

    name: str | None = Field(None, min_length=1, max_length=1_000, examples=["aspirin"])
    description: str | None = Field(None, min_length=1, max_length=10_000)


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


class NamedTriple(Strict):
    """A triple in words, the short form."""

    head: str = Field(min_length=1, max_length=1_000, examples=["aspirin"])
    relation: str = Field(min_length=1, max_length=1_000, examples=["treats"])
    tail: str = Field(min_length=1, max_length=1_000, examples=["headache"])


def _form(triple: object) -> str:
    return "named" if isinstance(triple, dict | NamedTriple) else "indices"


# Told apart by their form, so that an error speaks of the form that was meant.
Triple = Annotated[
    Annotated[tuple[Index, Index, Index], Tag("indices")] | Annotated[NamedTriple, Tag("named")], Discriminator(_form)
]


class ScoreRequest(Strict):
    """Triples to score. Either they point into `entities` and `relations`, or they name what they hold."""

    entities: list[Slot] = Field([], description="What the triples' first and third index point at.")
    relations: list[Slot] = Field([], description="What the triples' second index points at.")
    triples: list[Triple] = Field(
        description="[entity, relation, entity] indices, or, in the short form, objects of three names.",
        min_length=1,
    )
    readout: Literal["verdict"] = Field("verdict", description="How the score is read from the model.")
    template: str = Field("triple", description="Name of the prompt template; `/info` lists them.")

    @field_validator("triples")
    @classmethod
    def _one_form(cls, triples: list[Triple]) -> list[Triple]:
        if len({_form(triple) for triple in triples}) > 1:
            raise ValueError("give all triples as indices, or all as names")
        return triples


class RowText(Text):
    """The text of one row; `text_only` leaves the row's vectors out of the prompt."""

    text_only: bool = False


class ScoreHeader(Strict):
    """The message of a safetensors body for `/score`."""

    readout: Literal["verdict"] = "verdict"
    template: str = "triple"
    entity_texts: dict[Row, RowText] = Field({}, description="Texts by row of `entities`.")
    relation_texts: dict[Row, RowText] = Field({}, description="Texts by row of `relations`.")


class Usage(Strict):
    """What a call cost."""

    prompts: int = Field(description="Prompts that were run.")
    tokens: int = Field(description="Positions in those prompts, vectors included.")
    shared_tokens: int = Field(description="Positions whose computation was reused rather than run again.")


class Provenance(Strict):
    """What made a reply, so that numbers can be traced and two scorers compared."""

    model: str = Field(description="The loaded model, as set.")
    revision: str = Field(description="The exact weights: a hub commit, or a digest of the weights.")
    template: str = Field(description="The template used; `state` readouts name both sides' templates.")
    template_hash: str = Field(description="SHA-256 of the template's text.")
    readout: str
    usage: Usage


class ScoreReply(Provenance):
    """One score a triple, in the order of the request. Higher is more plausible."""

    scores: list[float] = Field(description="logit(yes) - logit(no) at the prompt's end, [t].")


class EncodeRequest(Strict):
    """Queries to encode: (given entity, relation) pairs, each with the side that it asks for."""

    entities: list[Slot] = Field(description="What the queries' first index points at.", min_length=1)
    relations: list[Slot] = Field(description="What the queries' second index points at.", min_length=1)
    queries: list[tuple[Index, Index]] = Field(description="[given entity, relation] indices.", min_length=1)
    sides: list[Side] | None = Field(None, description="0 asks for the tail, 1 for the head; all 0 where it is absent.")
    readout: Literal["state"] = Field("state", description="How the vector is read from the model.")


class EncodeGradientRequest(EncodeRequest):
    """The queries of an `/encode` call, and the gradient of a loss with respect to its states."""

    grad_states: list[list[Number]] = Field(description="d(loss)/d(states), [q, hidden].")


class EncodeHeader(Strict):
    """The message of a safetensors body for `/encode` and `/encode/gradient`."""

    readout: Literal["state"] = "state"
    entity_texts: dict[Row, RowText] = Field({}, description="Texts by row of `entities`.")
    relation_texts: dict[Row, RowText] = Field({}, description="Texts by row of `relations`.")


class EncodeReply(Provenance):
    """One hidden state a query, in the order of the request."""

    states: list[list[float]] = Field(description="Last-layer hidden states at the prompts' ends, [q, hidden].")


class EncodeGradientReply(Provenance):
    """Gradients with respect to the vectors sent, summed over the queries that used each."""

    entities: list[list[list[float]]] = Field(description="d(loss)/d(entity vectors): a [k, hidden] list an entity.")
    relations: list[list[list[float]]] = Field(description="The same for the relations.")


class Limits(Strict):
    """What one call may hold. Every limit that is refused with 413 or 422 is here."""

    max_body_bytes: int
    max_prompts: int = Field(description="Triples or queries a call.")
    max_slots: int = Field(description="Entities a call, and relations a call.")
    max_vectors_per_slot: int
    max_prompt_tokens: int = Field(description="Positions of one prompt.")
    max_call_tokens: int = Field(description="Positions of all prompts of one call.")
    queue: int = Field(description="Calls that may wait before 429 is answered.")


class TemplateInfo(Strict):
    """One prompt template."""

    text: str
    hash: str
    readout: str


class Info(Strict):
    """`GET /info`: what is loaded, and every limit."""

    model: str
    revision: str
    architecture: str
    dtype: str
    hidden: int
    layers: int
    vocabulary: int
    readouts: list[str]
    templates: dict[str, TemplateInfo]
    query_hash: str = Field(description="SHA-256 over the templates of both sides that `/encode` uses.")
    limits: Limits


SCORE_TENSORS = {
    "entities": TensorSpec("F32", ("n", "k", "hidden"), optional=True),
    "relations": TensorSpec("F32", ("m", "l", "hidden"), optional=True),
    "triples": TensorSpec("I32", ("t", 3)),
}

ENCODE_TENSORS = {
    "entities": TensorSpec("F32", ("n", "k", "hidden"), optional=True),
    "relations": TensorSpec("F32", ("m", "l", "hidden"), optional=True),
    "queries": TensorSpec("I32", ("q", 2)),
    "sides": TensorSpec("U8", ("q",), optional=True),
}
ENCODE_REPLY_TENSORS = {"states": TensorSpec("F32", ("q", "hidden"))}

ENCODE_GRADIENT_TENSORS = ENCODE_TENSORS | {"grad_states": TensorSpec("F32", ("q", "hidden"))}
ENCODE_GRADIENT_REPLY_TENSORS = {
    "entities": TensorSpec("F32", ("n", "k", "hidden"), optional=True),
    "relations": TensorSpec("F32", ("m", "l", "hidden"), optional=True),
}
