"""Messages of `/rank`: the best of given candidates for one query."""

from typing import Annotated

from pydantic import Discriminator, Field, Tag, model_validator

from protocol.messages import (
    SLOT_TENSORS,
    TAIL,
    Index,
    Name,
    Provenance,
    ScoreReadout,
    Side,
    Slot,
    SlotsHeader,
    Strict,
    VectorsAs,
)
from protocol.tensors import TensorSpec

TopK = Annotated[int | None, Field(ge=1, description="How many results to return; by default all.")]

Chosen = Annotated[ScoreReadout, Field(description="How candidates are scored.")]
Template = Annotated[
    str | None, Field(description="Name of a prompt template of `/info`; by default the readout's own for the side.")
]


def _form(candidates: object) -> str:
    named = isinstance(candidates, list) and candidates and isinstance(candidates[0], str)
    return "<names>" if named else "<indices>"


Candidates = Annotated[
    Annotated[list[Name], Field(min_length=1), Tag("<names>")]
    | Annotated[list[Index], Field(min_length=1), Tag("<indices>")],
    Discriminator(_form),
    Field(description="Names, or indices into `entities`."),
]


class RankRequest(Strict):
    """Candidates to rank for (head, relation, ?) or (?, relation, tail).

    In words: `relation`, one of `head` and `tail`, and `candidates` as names. Or `entities` and `relations`, with
    `query`, `side` and `candidates` as indices into them.
    """

    head: Name | None = Field(None, description="The given head, where tails are asked for.", examples=["aspirin"])
    relation: Name | None = Field(None, examples=["treats"])
    tail: Name | None = Field(None, description="The given tail, where heads are asked for.")
    entities: list[Slot] = Field([], description="What `query` and `candidates` point at.")
    relations: list[Slot] = Field([], description="What the query's second index points at.")
    query: tuple[Index, Index] | None = Field(None, description="[given entity, relation] indices.")
    side: Side = Field(TAIL, description="With `query`: 0 asks for the tail, 1 for the head.")
    candidates: Candidates
    readout: Chosen = "verdict"
    template: Template = None
    vectors_as: VectorsAs = "input"
    top_k: TopK = None

    @model_validator(mode="after")
    def _one_form(self) -> "RankRequest":
        words = self.query is None
        if words and (self.relation is None or (self.head is None) == (self.tail is None)):
            raise ValueError("give relation and one of head and tail, or entities, relations and query")
        if words and (self.entities or self.relations or self.side != TAIL):
            raise ValueError("entities, relations and side go with query; a query in words needs none of them")
        if not words and not (self.head is self.relation is self.tail is None):
            raise ValueError("give the query in words or as indices, not both")
        if words != isinstance(self.candidates[0], str):
            raise ValueError("candidates: give names with a query in words, and indices with `query`")
        return self


class RankHeader(SlotsHeader):
    """The message of a safetensors body for `/rank`."""

    readout: Chosen = "verdict"
    template: Template = None
    top_k: TopK = None


class RankResult(Strict):
    """One candidate."""

    index: int = Field(description="Its place in `candidates`.")
    score: float
    rank: float = Field(description="Realistic rank, from 1: equal scores share the mean of their places.")


class RankReply(Provenance):
    """The best candidates first; of equal ones, the earlier in the request.

    A candidate whose answer could not be read is ranked last and left out of `results`.
    """

    results: list[RankResult]
    reasons: dict[Index, str] = Field({}, description="Why a candidate has no score, by its place in `candidates`.")


RANK_TENSORS = SLOT_TENSORS | {
    "queries": TensorSpec("I32", (1, 2)),
    "sides": TensorSpec("U8", (1,), optional=True),
    "candidates": TensorSpec("I32", ("c",)),
}
RANK_REPLY_TENSORS = {
    "indices": TensorSpec("I32", ("r",)),
    "scores": TensorSpec("F32", ("r",)),
    "ranks": TensorSpec("F32", ("r",)),
}
