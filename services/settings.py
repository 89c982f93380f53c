"""Reading a service's settings from the environment: one clear line where one of them is wrong."""

from typing import TypeVar

from pydantic import ValidationError
from pydantic_settings import BaseSettings

Settings = TypeVar("Settings", bound=BaseSettings)


def read_settings(kind: type[Settings], service: str) -> Settings:
    """The settings of a service.

    Raises:
        SystemExit: A setting is missing or invalid; the message names its environment variable, never its value.
    """
    try:
        return kind()
    except ValidationError as error:
        prefix = str(kind.model_config.get("env_prefix", ""))
        items = error.errors(include_input=False, include_url=False, include_context=False)
        reasons = []
        for item in items:
            variable = prefix + "_".join(map(str, item["loc"])).upper() if item["loc"] else ""
            reasons.append(": ".join(filter(None, [variable, item["msg"].removeprefix("Value error, ")])))
        raise SystemExit(f"The {service} cannot start: {'; '.join(reasons)}") from None
