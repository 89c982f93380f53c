"""How Schemathesis' cases are called: with the headers that show who calls, and counted by their status."""

from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path

import requests
import schemathesis
from schemathesis import Case, GenerationMode, SerializationContext
from schemathesis.schemas import BaseSchema

ROOT = Path(__file__).parents[2]
Headers = Callable[[requests.PreparedRequest], dict[str, str]]
"""What shows who calls, for a request that is otherwise ready."""
ANSWERS = ["2xx", "3xx", "401", "403", "404", "409", "413", "422", "424", "429", "503"]
"""To data that the schema takes. 413, 422: some bounds hold between fields, or are settings; no schema tells them."""


TENSORS: dict[str, bytes] = {}
"""Bodies by case, in place of the text that stands for one: no schema tells which bytes a tensor file may hold."""


@schemathesis.serializer("application/safetensors")
def _tensors(context: SerializationContext, value: object) -> bytes:
    return TENSORS.get(context.case.id) or (value if isinstance(value, bytes) else str(value).encode())


def api_of(service: str, examples: int) -> BaseSchema:
    """The committed API page of a service, to be asked with every check on."""
    schema = schemathesis.openapi.from_path(ROOT / "docs" / "openapi" / f"{service}.json")
    schema.config.checks.positive_data_acceptance.expected_statuses = ANSWERS
    rejection = schema.config.checks.negative_data_rejection
    rejection.expected_statuses = [*rejection.expected_statuses, "413"]  # too long for a field, and for its body too
    schema.config.generation.update(max_examples=examples, deterministic=True, database="none")
    return schema


def is_valid(case: Case) -> bool:
    """Whether the schema takes the case's data, and its method is the operation's."""
    meta = case.meta
    return meta is not None and meta.generation.mode is GenerationMode.POSITIVE and case.method == _method(case)


def _method(case: Case) -> str:
    return case.operation.method.upper()


class Shares:
    """Counts replies by operation and status."""

    def __init__(self) -> None:
        self._seen: dict[str, Counter[int]] = defaultdict(Counter)

    def ask(self, case: Case, base_url: str, headers: Headers) -> None:
        """Send a case, and have every check look at the reply."""
        ready = requests.Request(**case.as_transport_kwargs(base_url=base_url)).prepare()
        shown = headers(ready)
        response = case.call(base_url=base_url, headers=shown)
        if case.method == _method(case):
            self._seen[case.operation.label][response.status_code] += 1
        case.validate_response(response, headers=shown)

    def __str__(self) -> str:
        lines = []
        for label, seen in sorted(self._seen.items()):
            statuses = ", ".join(f"{status} x {count}" for status, count in sorted(seen.items()))
            lines.append(f"{self.share(label):4.0%} of {sum(seen.values()):4} answered 2xx: {label} ({statuses})")
        return "\n".join(lines)

    def share(self, label: str) -> float:
        """The part of an operation's replies that are 2xx."""
        seen = self._seen[label]
        return sum(count for status, count in seen.items() if 200 <= status < 300) / max(1, sum(seen.values()))
