"""Messages of `/score` and `/score/gradient`: one number a triple, and what moves it."""

from typing import Annotated, Literal

from pydantic import Discriminator, Field, Tag, field_validator, model_validator

from protocol.messages import (
    SLOT_TENSORS,
    Index,
    Keep,
    Name,
    Number,
    Provenance,
    ScoreReadout,
    Slot,
    SlotGradients,
    SlotsHeader,
    Strict,
    VectorsAs,
)
from protocol.tensors import TensorSpec


class NamedTriple(Strict):
    """A triple in words, the short form."""

    head: Name = Field(examples=["aspirin"])
    relation: Name = Field(examples=["treats"])
    tail: Name = Field(examples=["headache"])


def _form(triple: object) -> str:
    return "<names>" if isinstance(triple, dict | NamedTriple) else "<indices>"


# Told apart by their form, so that an error speaks of the form that was meant.
Triple = Annotated[
    Annotated[tuple[Index, Index, Index], Tag("<indices>")] | Annotated[NamedTriple, Tag("<names>")],
    Discriminator(_form),
]

_READOUT = Field(description="How the score is read from the model.")
Chosen = Annotated[ScoreReadout, _READOUT]
Differentiable = Annotated[Literal["verdict", "number"], _READOUT]
Template = Annotated[
    str | None, Field(description="Name of a prompt template of `/info`; by default the readout's own.")
]


class ScoreRequest(Strict):
    """Triples to score. Either they point into `entities` and `relations`, or they name what they hold."""

    entities: list[Slot] = Field([], description="What the triples' first and third index point at.")
    relations: list[Slot] = Field([], description="What the triples' second index points at.")
    triples: list[Triple] = Field(
        description="[entity, relation, entity] indices, or, in the short form, objects of three names.",
        min_length=1,
    )
    readout: Chosen = "verdict"
    template: Template = None
    vectors_as: VectorsAs = "input"
    keep: Keep = False

    @field_validator("triples")
    @classmethod
    def _one_form(cls, triples: list[Triple]) -> list[Triple]:
        if len({_form(triple) for triple in triples}) > 1:
            raise ValueError("give all triples as indices, or all as names")
        return triples


class ScoreHeader(SlotsHeader):
    """The message of a safetensors body for `/score`."""

    readout: Chosen = "verdict"
    template: Template = None
    keep: Keep = False


class ScoreReply(Provenance):
    """One score a triple, in the order of the request. Higher is more plausible."""

    scores: list[float | None] = Field(
        description="[t]. `verdict`: logit(yes) - logit(no) at the prompt's end; `likelihood`: mean log-probability of "
        "the tokens that were asked for; `number`: what the model rates the triple, 0 to 9. null where an answer could "
        "not be read."
    )
    probabilities: list[float | None] | None = Field(
        None, description="Of `verdict`: P(yes), given that the answer is yes or no, [t]."
    )
    masses: list[float | None] | None = Field(
        None, description="Of `verdict` and `number`: probability that the answer is one of those looked at, [t]."
    )
    reasons: dict[Index, str] = Field({}, description="Why a score is null, by its place.")


class Loss(Strict):
    """A loss over the scores of a call, computed beside the model.

    `self_adversarial` and `margin_ranking` need `groups`; `cross_entropy` needs `groups` or `labels`. Each is a mean:
    over the groups, their negatives, or the labels.
    """

    name: Literal["self_adversarial", "margin_ranking", "cross_entropy"]
    margin: float = Field(
        0.0, ge=0, le=1e6, description="gamma: added by `self_adversarial`, asked by `margin_ranking`."
    )
    temperature: float = Field(1.0, ge=0, le=1e6, description="Adversarial temperature of `self_adversarial`.")


Label = Annotated[float, Field(ge=0, le=1, strict=True)]


class ScoreGradientRequest(ScoreRequest):
    """The triples of a `/score` call, and either d(loss)/d(scores) or the loss itself."""

    readout: Differentiable = "verdict"
    vectors_as: Literal["input"] = "input"
    grad_scores: list[Number] | None = Field(None, description="d(loss)/d(scores), [t].")
    loss: Loss | None = Field(None, description="The loss, in place of `grad_scores`.")
    groups: list[Index] | None = Field(
        None, description="[t]: triples of one number are a group; the first of each is its positive."
    )
    labels: list[Label] | None = Field(None, description="[t]: 1 for a true triple, 0 for a false one; of `verdict`.")

    @model_validator(mode="after")
    def _one_gradient(self) -> "ScoreGradientRequest":
        check_gradient(self.loss, self.readout, {n for n in GRADIENT_GIVEN if getattr(self, n) is not None})
        return self


class ScoreGradientHeader(ScoreHeader):
    """The message of a safetensors body for `/score/gradient`."""

    readout: Differentiable = "verdict"
    vectors_as: Literal["input"] = "input"
    loss: Loss | None = None


class ScoreGradientReply(SlotGradients):
    """The scores, and gradients with respect to the vectors sent."""

    scores: list[float] = Field(description="As `/score` gives them, [t].")
    loss: float | None = Field(None, description="The loss, where one was named.")


def check_gradient(loss: Loss | None, readout: str, given: set[str]) -> None:
    """Refuse what does not say one loss; `given` names those of `GRADIENT_GIVEN` that were sent.

    Raises:
        ValueError: What is missing or too much.
    """
    if loss is None:
        if given != {"grad_scores"}:
            raise ValueError("give grad_scores alone, or a loss with groups or labels")
        return
    if "grad_scores" in given:
        raise ValueError("grad_scores and loss: give one of them")
    wanted = {"groups", "labels"} if loss.name == "cross_entropy" else {"groups"}
    if len(given) != 1 or not given <= wanted:
        raise ValueError(f"the loss {loss.name} needs {' or '.join(sorted(wanted))}, and nothing else")
    if "labels" in given and readout != "verdict":
        raise ValueError("labels belong to the readout verdict; give groups")


SCORE_TENSORS = SLOT_TENSORS | {"triples": TensorSpec("I32", ("t", 3))}
SCORE_REPLY_TENSORS = {
    "scores": TensorSpec("F32", ("t",), nan=True),
    "probabilities": TensorSpec("F32", ("t",), optional=True, nan=True),
    "masses": TensorSpec("F32", ("t",), optional=True, nan=True),
}
GRADIENT_GIVEN = {
    "grad_scores": TensorSpec("F32", ("t",), optional=True),
    "groups": TensorSpec("I32", ("t",), optional=True),
    "labels": TensorSpec("F32", ("t",), optional=True),
}
"""What says where a gradient comes from."""
SCORE_GRADIENT_TENSORS = SCORE_TENSORS | GRADIENT_GIVEN
SCORE_GRADIENT_REPLY_TENSORS = SLOT_TENSORS | {"scores": TensorSpec("F32", ("t",))}
