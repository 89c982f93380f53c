"""The page of settings: of both services, of the command line, and of a training, with the presets to begin with."""

from collections import defaultdict
from collections.abc import Iterator
from typing import Any, get_args

from pydantic import BaseModel
from typer.main import get_command

from protocol.presets import PresetName, preset_of
from protocol.trainings import (
    AggregationSettings,
    Dense,
    InteractionName,
    LocalSettings,
    ScorerIdentity,
    TrainingSettings,
)
from services.coordinator.settings import CoordinatorSettings
from services.scorer.settings import Settings
from tools.reference.commands import walk
from trainer.cli import app

BELOW = "an object, below"
HEAD = ["| {} | default | allowed | meaning |", "|---|---|---|---|"]


def settings() -> str:
    """Every environment variable and every setting of a training."""
    lines = [
        "# Settings",
        "",
        "Services read their settings from the environment. One that is missing or invalid ends the start with one",
        "line that names it. `.env.example` lists what `docker compose up` takes; this page lists what the programs",
        "themselves take, and what a training is made of.",
        *_services(),
        *_section(
            "## Trainer", "Options that can be given in the environment too; [commands](commands.md) explains them."
        ),
        "| variable | option | of |",
        "|---|---|---|",
        *_variables(),
        "",
        "`SSL_CERT_FILE` names the certificates that `https://` addresses are checked with, in place of others.",
        *_training(),
    ]
    return "\n".join(lines) + "\n"


def _services() -> list[str]:
    return [
        *_section("## Scorer", "`uvicorn services.scorer.app:create_app --factory --port 8000`"),
        *_table(Settings, "variable", "SCORER_"),
        "",
        "The hub's own client reads `HF_ENDPOINT` (where models are downloaded from), `HF_HOME` (where they are kept)",
        "and `HF_TOKEN` (for models that ask for one).",
        *_section("## Coordinator", "`uvicorn services.coordinator.app:create_app --factory --port 8001`"),
        *_table(CoordinatorSettings, "variable", "COORDINATOR_"),
        "",
        "One of the invitation token and the list of allowed keys must be set, or nobody could join.",
        "`COORDINATOR_BLOBS=s3://…` takes its credentials from the AWS variables: `AWS_ACCESS_KEY_ID`,",
        "`AWS_SECRET_ACCESS_KEY`, `AWS_SESSION_TOKEN`, `AWS_DEFAULT_REGION`, and `AWS_ENDPOINT_URL` for another server",
        "with that API. PostgreSQL needs `pip install '.[postgres]'`, S3 `'.[s3]'`; the image has",
        "both. [coordinator.md](../coordinator.md) says how to run it.",
    ]


def _training() -> list[str]:
    return [
        *_section(
            "## A training",
            "What `POST /round` takes, and an [experiment](../experiments.md) for each variant; `tripleherd start` has",
            "options for what is changed most, and takes the rest from the interaction's [preset](#presets).",
        ),
        *_table(TrainingSettings, "setting"),
        *_section("### local", "How every client trains ([training](../training.md), [`llama`](../llama.md))."),
        *_table(LocalSettings, "setting of `local`"),
        *_section("### aggregation", "How the next version is made ([strategies](../coordinator.md#aggregation))."),
        *_table(AggregationSettings, "setting of `aggregation`"),
        *_section("### scorer identity", "The scorer of `llama`; `tripleherd start` fills it in."),
        *_table(ScorerIdentity, "setting of `scorer`"),
        *_section("### dense", "Shared dense tensors; `tripleherd start` makes those that the interaction needs."),
        *_table(Dense, "setting of each tensor"),
        *_section(
            "### Presets",
            "Where a training begins, with `--preset`: what departs from the defaults above. `default` was chosen",
            "among six trials for each interaction ([results](../results.md)); `fede` is how FedE was published.",
        ),
        "| preset | interaction | settings |",
        "|---|---|---|",
        *_presets(),
    ]


def _section(title: str, *words: str) -> list[str]:
    return ["", title, "", *words, ""]


def _table(model: type[BaseModel], what: str, prefix: str = "") -> Iterator[str]:
    """A row a field. `prefix` is that of environment variables, whose names are upper case."""
    yield from (line.format(what) for line in HEAD)
    schema = model.model_json_schema()
    for name, field in schema["properties"].items():
        shown = prefix + name.upper() if prefix else name
        default = "needed" if name in schema.get("required", ()) else _default(field, schema)
        said = field.get("description") or _target(field, schema)["description"]
        yield f"| `{shown}` | {default} | {_allowed(field, schema)} | {said} |"


def _default(field: dict[str, Any], schema: dict[str, Any]) -> str:
    value = field.get("default")
    if value is None or _allowed(field, schema) == BELOW:
        return ""
    return f"`{_value(value)}`"


def _value(value: Any) -> str:
    """As JSON has it, numbers short, large powers of two as such."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int) and value.bit_count() == 1 and value >= 1 << 20:
        return f"2**{value.bit_length() - 1}"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _allowed(field: dict[str, Any], schema: dict[str, Any]) -> str:
    """What a field may hold, of its JSON schema; empty where any text will do."""
    if "$ref" in field:
        target = _target(field, schema)
        return BELOW if "properties" in target else _allowed(target, schema)
    if choices := field.get("oneOf") or field.get("anyOf"):
        parts = [_allowed(choice, schema) for choice in choices if choice.get("type") != "null"]
        return ", or ".join(part for part in parts if part)
    if "enum" in field:
        return ", ".join(f"`{value}`" for value in field["enum"])
    if "const" in field:
        return f"`{field['const']}`"
    kinds = {
        "integer": "integer",
        "number": "number",
        "boolean": "`true`, `false`",
        "array": "list",
        "object": "object",
    }
    return " ".join([kinds.get(field.get("type", ""), ""), *_bounds(field)]).strip()


def _target(field: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    """What a reference leads to."""
    found: dict[str, Any] = schema["$defs"][field["$ref"].rpartition("/")[2]]
    return found


def _bounds(field: dict[str, Any]) -> Iterator[str]:
    for key, sign in (("exclusiveMinimum", ">"), ("minimum", "≥"), ("exclusiveMaximum", "<"), ("maximum", "≤")):
        if key in field:
            bound = field[key]
            yield f"{sign} {_value(int(bound) if float(bound).is_integer() else bound)}"


def _variables() -> Iterator[str]:
    """A row for each variable of the command line: its options, and the commands that take them."""
    taken: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for name, command in walk(get_command(app), ""):
        for parameter in command.params:
            if parameter.envvar:
                options = ", ".join(f"`{each}`" for each in (*parameter.opts, *parameter.secondary_opts))
                taken[str(parameter.envvar)][options].append(f"`{name.strip()}`")
    for variable, found in taken.items():
        for options, names in found.items():
            yield f"| `{variable}` | {options} | {', '.join(names)} |"


def _presets() -> Iterator[str]:
    for name in get_args(PresetName):
        for interaction in get_args(InteractionName):
            try:
                preset = preset_of(name, interaction)
            except ValueError:
                continue
            local = preset.local.model_dump(exclude_defaults=True)
            given = [*preset.training.items(), *((f"local.{key}", value) for key, value in local.items())]
            yield f"| `{name}` | `{interaction}` | {', '.join(f'`{key}` {_value(value)}' for key, value in given)} |"
