"""Packages that only experiments need: where one is missing, the extra that brings it is named."""

from importlib import import_module
from types import ModuleType

from trainer.inputs import UsageError


def needed(module: str, extra: str) -> ModuleType:
    """The module.

    Raises:
        UsageError: It is not installed.
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        raise UsageError(
            f"{error.name} is not installed, which this needs; install it with: pip install '.[{extra}]'"
        ) from error
