"""An experiment as its user describes it: data sets, variants, modes and seeds. `reading` reads it from YAML."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, Field, create_model, model_validator

from protocol.messages import Strict
from protocol.presets import PresetName
from protocol.rounds import Mode
from protocol.trainings import InteractionName, TrainingSettings
from trainer.owners import By
from trainer.results import MODES

Message = TypeVar("Message", bound=BaseModel)
Label = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]{0,63}$")]
"""Names a folder, a row of a table and a line of a plot."""
Tracker = Literal["mlflow", "wandb"]
SCORER_SETTINGS = """
    backend model revision dtype device device_map quantization cache_dir random_seed random_hidden random_layers
    random_heads random_key_value_heads random_intermediate templates description_tokens workers threads batch_tokens
    merge keep_seconds keep_bytes max_body_bytes body_seconds max_prompts max_slots
    max_vectors_per_slot max_prompt_tokens max_call_tokens queue openai_base_url openai_api_key openai_api_key_file
    openai_concurrency openai_retries openai_timeout openai_candidates openai_input_price openai_output_price
    openai_max_cost
"""
"""What a scorer reads of its environment, in small letters: it takes no notice of other variables.

A key of its own is missing: the scorer is for this experiment alone, and listens on loopback.
"""


def _known(variable: str) -> str:
    if not variable.startswith("SCORER_") or variable.removeprefix("SCORER_").lower() not in SCORER_SETTINGS.split():
        raise ValueError("the scorer has no such setting; docs/reference/settings.md lists them")
    return variable


def _optional(model: type[BaseModel], besides: frozenset[str] = frozenset()) -> Mapping[str, Any]:
    """The fields of a model, none of them needed, as `create_model` takes them; so are those of models inside it."""
    fields = {}
    for name, field in model.model_fields.items():
        if name in besides:
            continue
        kind: Any = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            kind = create_model(f"Some{kind.__name__}", __base__=Strict, **_optional(kind))
        bounded = Annotated[(kind, *field.metadata)] if field.metadata else kind
        fields[name] = (bounded | None, None)
    return fields


def with_changes_of(model: type[BaseModel], *besides: str) -> Callable[[type[Message]], type[Message]]:
    """Give a message the fields of another one, none of them needed and each with its own bounds."""

    def decorate(message: type[Message]) -> type[Message]:
        more = _optional(model, frozenset((*besides, *message.model_fields)))
        return create_model(message.__name__, __base__=message, __doc__=message.__doc__, **more)

    return decorate


class Split(Strict):
    """How a data set is dealt to clients, anew for each seed; as by `tripleherd split`."""

    clients: int = Field(ge=1, le=10_000)
    by: By = "relations"
    skew: float | None = Field(None, gt=0, allow_inf_nan=False)


class DataChoice(Strict):
    """Either a folder of `client_*` folders, or a data set and its split. Paths are relative to the YAML file."""

    folder: Path | None = None
    dataset: str | None = Field(None, min_length=1, description="As `tripleherd split` takes it.")
    split: Split | None = None

    @model_validator(mode="after")
    def _one_of_them(self) -> "DataChoice":
        if (self.folder is None) == (self.dataset is None):
            raise ValueError("give either `folder`, with a folder for each client, or `dataset` and `split`")
        if (self.dataset is None) != (self.split is None):
            raise ValueError("`dataset` and `split` go together: a folder of clients is split already")
        return self


@with_changes_of(TrainingSettings, "dense", "scorer", "seed", "clients")
class Variant(Strict):
    """An interaction's preset and what differs from it: every setting of a training that nothing else decides."""

    interaction: InteractionName | None = None
    preset: PresetName = "default"
    device: str = Field("cpu", description="Where a client's tensors are, as by `join --device`.")

    def settings(self) -> dict[str, Any]:
        """What is given of the fields of `TrainingSettings`, but for the interaction; others are missing."""
        given = self.model_dump(exclude_unset=True, exclude_none=True, exclude={"interaction"})
        return {name: value for name, value in given.items() if name in TrainingSettings.model_fields}


class ScorerChoice(Strict):
    """The scorer of `llama`: settings of one that is started, or the address of one that runs."""

    environment: dict[Annotated[str, AfterValidator(_known)], str | bool | int | float] = Field({})
    address: str | None = None
    key_file: Path | None = None

    @model_validator(mode="after")
    def _one_of_them(self) -> "ScorerChoice":
        if self.address is not None and self.environment:
            raise ValueError("a scorer that runs already (`address`) takes no settings (`environment`)")
        if self.address is None and self.key_file is not None:
            raise ValueError("`key_file` holds the key of the scorer at `address`, which is missing")
        return self

    def variables(self) -> dict[str, str]:
        """The settings as an environment holds them."""
        given = self.environment.items()
        return {name: str(value).lower() if isinstance(value, bool) else str(value) for name, value in given}


class Experiment(Strict):
    """What is run: each variant on each data set with each seed, in these modes."""

    name: Label
    data: dict[Label, DataChoice] = Field(min_length=1)
    defaults: Variant = Field(Variant(), description="Of all variants.")
    variants: dict[Label, Variant] = Field(min_length=1)
    modes: list[Mode] = Field(list(MODES), min_length=1)
    seeds: list[Annotated[int, Field(ge=0, lt=1 << 63)]] = Field([0], min_length=1)
    scorer: ScorerChoice = ScorerChoice()
    track: list[Tracker] = Field([])

    @model_validator(mode="after")
    def _consistent(self) -> "Experiment":
        for what in ("modes", "seeds", "track"):
            if len(set(given := getattr(self, what))) < len(given):
                raise ValueError(f"{what}: one of them stands twice")
        for name in self.variants:
            variant = self.variant(name)
            if variant.interaction is None:
                raise ValueError(f"variants.{name}.interaction: is missing, here and in `defaults`")
        return self

    def variant(self, name: str) -> Variant:
        """A variant, with the defaults where it says nothing; its `null` takes back what they say."""
        defaults, given = (each.model_dump(exclude_unset=True) for each in (self.defaults, self.variants[name]))
        return Variant.model_validate(_over(defaults, given))


def _over(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    merged = below | above
    nested = [name for name in above if isinstance(above[name], dict) and isinstance(below.get(name), dict)]
    return merged | {name: _over(below[name], above[name]) for name in nested}
