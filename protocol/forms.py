"""The forms of `llama` as interaction: what stands in its prompts, how it is read, and what is trained around it."""

from typing import Annotated, Literal

from pydantic import Discriminator, Field, Tag, model_validator

from protocol.messages import Strict

TextsName = Literal["none", "names", "descriptions", "anonymised"]
AdapterName = Literal["shared", "local", "none"]
PointwiseReadout = Literal["verdict", "number"]
TrainedReadout = Literal["state", "verdict", "number"]
TrainedLayer = Annotated[
    Annotated[Literal["last", "middle", "none"], Tag("<name>")]
    | Annotated[int, Field(ge=1, strict=True), Tag("<number>")],
    Discriminator(lambda layer: "<name>" if isinstance(layer, str) else "<number>"),
]

TEMPLATE_NAME = r"[a-z][a-z0-9_-]{0,63}"
TemplateName = Annotated[str, Field(pattern=f"^{TEMPLATE_NAME}$")]
OWN_TEMPLATES: dict[TrainedReadout, tuple[str, ...]] = {
    "state": ("query", "query_head"),
    "verdict": ("triple",),
    "number": ("number",),
}
"""What asks for the tail and for the head; of readouts of triples one for both sides: a triple has one score. That it
asks for the tail is why tails share most."""


class LlamaForm(Strict):
    """Of `llama`; other interactions leave it alone."""

    readout: TrainedReadout = Field(
        "state",
        description="Of `llama`: `state` asks one prompt a query, and candidates meet its state as dot products; "
        "`verdict` and `number` ask one prompt a triple for its score, of sampled candidates in training.",
    )
    texts: TextsName = Field(
        "none",
        description="Of `llama`: what slots say in words. `descriptions` are names too; `anonymised` numbers entities "
        "and relations at random.",
    )
    vectors: bool = Field(True, description="Of `llama`: whether trained vectors stand in the slots.")
    vectors_per_slot: int = Field(1, ge=1, le=64, description="Of `llama`: vectors that stand for one entity.")
    adapter: AdapterName = Field(
        "shared",
        description="Of `llama`: the maps between rows and the model's vectors. All clients share them, or each keeps "
        "its own (`local`), or rows are themselves vectors of the model's size (`none`).",
    )
    layer: TrainedLayer = Field(
        "last",
        description="Of `llama` with readout `state`: after which layer of the model the state is read. `none` is the "
        "control without a model: the state is the mean of the slots' vectors.",
    )
    templates: list[TemplateName] | None = Field(
        None,
        description="Of `llama`: the scorer's templates that its prompts are made with: of `state` one that asks for "
        "the tail and one that asks for the head, of a readout of triples one. The readout's own unless given.",
    )

    @property
    def prompts(self) -> tuple[str, ...]:
        """The names of its templates."""
        return tuple(self.templates or OWN_TEMPLATES[self.readout])

    @model_validator(mode="after")
    def _possible(self) -> "LlamaForm":
        if not self.vectors and self.texts == "none":
            raise ValueError("vectors: slots hold something; without vectors let texts be something else than `none`")
        if self.layer == "none" and self.texts != "none":
            raise ValueError("layer: with `none` there is no model that could read texts; let texts be `none`")
        if self.readout != "state" and self.layer == "none":
            raise ValueError(f"layer: the readout `{self.readout}` needs the model; give another layer than `none`")
        if self.readout != "state" and not self.vectors:
            raise ValueError(f"vectors: they are all that the readout `{self.readout}` trains; let them be true")
        if self.adapter == "none" and self.vectors_per_slot > 1:
            raise ValueError("vectors_per_slot: without an adapter a row is one vector; let it be 1")
        if self.templates is not None and self.layer == "none":
            raise ValueError("templates: with layer `none` there is no prompt; leave them out")
        if len(self.prompts) != len(OWN_TEMPLATES[self.readout]):
            wanted = "two, for the tail and for the head" if self.readout == "state" else "one, for both sides"
            raise ValueError(f"templates: the readout `{self.readout}` needs {wanted}")
        return self
