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
        return self
