"""Everything that can be refused, as exceptions, and as RFC 9457 problem documents on the wire.

    ProblemError
    ├── Unauthorized        401  no token or signature, or one that is not right
    ├── OverBudget          402  what may be spent on another server is spent
    ├── Forbidden           403  a valid token for something else
    ├── NotFound            404  no such route, training or round
    ├── MethodNotAllowed    405  the route exists for another method
    ├── TooSlow             408  the body did not arrive in time
    ├── Conflict            409  the request contradicts what is stored
    ├── BodyTooLarge        413  the body, or the batch in it, is over a limit
    ├── WrongMediaType      415  a body in a format that the route does not read
    ├── InvalidRequest      422  a field is missing, malformed, non-finite or out of bounds
    ├── ModelFailed         424  the model could not process a valid request
    ├── Busy                429  the queue is full; try again after ``retry_after`` seconds
    ├── NotReady            503  the service is starting, or lost what it depends on
    └── StorageFull         507  the disk is full

Raise them where the fault is known. Services turn them into responses in one place (`services.web`); clients turn
responses back into them with `problem_from_response`.
"""

import re
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

MEDIA_TYPE = "application/problem+json"
LONGEST_WAIT = 3600
"""Seconds: a service that asks to be left alone for longer is not believed."""


def _encodable(text: Any) -> Any:
    """JSON can spell half a surrogate pair, which UTF-8 cannot; echo it as it was spelt."""
    return text.encode(errors="backslashreplace").decode() if isinstance(text, str) else text


_MEMBER = re.compile(r"<\w+>")
"""A tag of a union's member, as this package writes them. Pydantic puts it into paths, where it names no field."""

Echo = Annotated[str, BeforeValidator(_encodable)]
"""Text that may hold parts of a refused request."""


class FieldError(BaseModel):
    """One field of a request that was refused, and why."""

    field: Echo = Field(description="Path of the field, as `entities.3.vectors` or a tensor's name.")
    message: Echo = Field(description="What is wrong with it and what would be accepted.")


class Problem(BaseModel):
    """A problem document (RFC 9457). `type` is stable and meant for programs; `detail` is meant for people."""

    model_config = ConfigDict(extra="allow")

    type: str = Field(description="Stable name of the kind of problem, a URN.")
    title: str = Field(description="The kind of problem in words.")
    status: int = Field(description="The HTTP status code.")
    detail: Echo = Field(description="What went wrong in this request, and the way out.")
    errors: list[FieldError] = Field(default=[], description="The fields at fault, where fields are at fault.")


class ProblemError(Exception):
    """A refusal. Subclasses fix the status; `detail` says what went wrong this time and the way out."""

    status: ClassVar[int] = 500
    kind: ClassVar[str] = "internal-error"
    title: ClassVar[str] = "The service failed"

    def __init__(self, detail: str, /, *, errors: list[FieldError] | None = None, **extra: Any) -> None:
        super().__init__(detail)
        self.detail = detail
        self.errors = errors or []
        self.extra = extra

    def document(self) -> Problem:
        """The problem document to send; `extra` becomes members of its own, as RFC 9457 allows."""
        return Problem(
            type=f"urn:tripleherd:problem:{self.kind}",
            title=self.title,
            status=self.status,
            detail=self.detail,
            errors=self.errors,
            **self.extra,
        )

    @property
    def headers(self) -> dict[str, str]:
        """Response headers that belong to this problem."""
        return {}


class Unauthorized(ProblemError):
    """No token or signature, or one that nobody was given or is not of now."""

    status, kind, title = 401, "unauthorized", "A valid token or signature is needed"

    @property
    def headers(self) -> dict[str, str]:
        """RFC 9110 asks every 401 to name the scheme."""
        return {"WWW-Authenticate": "Bearer"}


class OverBudget(ProblemError):
    """What may be spent on another server is spent."""

    status, kind, title = 402, "over-budget", "The cost cap is reached"


class Forbidden(ProblemError):
    """A valid token for something else."""

    status, kind, title = 403, "forbidden", "This token does not allow that"


class NotFound(ProblemError):
    """No such route, training or round."""

    status, kind, title = 404, "not-found", "Not found"


class MethodNotAllowed(ProblemError):
    """The route exists for another method."""

    status, kind, title = 405, "method-not-allowed", "This method is not allowed here"


class TooSlow(ProblemError):
    """The body did not arrive in time."""

    status, kind, title = 408, "too-slow", "The request took too long to arrive"


class Conflict(ProblemError):
    """The request contradicts what is stored."""

    status, kind, title = 409, "conflict", "The request contradicts what is stored"


class BodyTooLarge(ProblemError):
    """The body, or the batch in it, is over a limit."""

    status, kind, title = 413, "body-too-large", "The request is over a limit"


class WrongMediaType(ProblemError):
    """A body in a format that the route does not read."""

    status, kind, title = 415, "wrong-media-type", "The body's media type is not read here"


class InvalidRequest(ProblemError):
    """A field is missing, malformed, non-finite or out of bounds."""

    status, kind, title = 422, "invalid-request", "A field of the request is invalid"

    @classmethod
    def of(cls, field: str, message: str) -> "InvalidRequest":
        """One field at fault."""
        return cls(f"{field}: {message}", errors=[FieldError(field=field, message=message)])

    @classmethod
    def from_validation(cls, error: ValidationError, prefix: str = "") -> "InvalidRequest":
        """The fields that pydantic refused; `prefix` names what was validated."""
        return cls.of_items(error.errors(include_url=False, include_context=False, include_input=False), prefix)

    @classmethod
    def of_items(cls, items: Iterable[Mapping[str, Any]], prefix: str = "") -> "InvalidRequest":
        """Refusals as pydantic lists them, each with its `loc` and `msg`."""
        errors = []
        for item in items:
            path = [str(part) for part in item["loc"] if not _MEMBER.fullmatch(str(part))]
            field = ".".join([prefix, *path] if prefix else path)
            errors.append(FieldError(field=field or "body", message=item["msg"].removeprefix("Value error, ")))
        return cls("; ".join(f"{e.field}: {e.message}" for e in errors[:3]), errors=errors[:20])


class ModelFailed(ProblemError):
    """The model could not process a valid request."""

    status, kind, title = 424, "model-failed", "The model failed"


class Busy(ProblemError):
    """The queue is full; try again after `retry_after` seconds."""

    status, kind, title = 429, "busy", "The service is busy"

    def __init__(self, detail: str, *, retry_after: int = 1) -> None:
        super().__init__(detail, retry_after=retry_after)
        self.retry_after = retry_after

    @property
    def headers(self) -> dict[str, str]:
        """Tell well-behaved clients how long to wait."""
        return {"Retry-After": str(self.retry_after)}


class NotReady(ProblemError):
    """The service is starting, or lost what it depends on."""

    status, kind, title = 503, "not-ready", "The service is not ready"


class StorageFull(ProblemError):
    """The disk is full; nothing of the request was kept, and it can be repeated once there is room."""

    status, kind, title = 507, "storage-full", "There is no room to keep this"


KINDS: dict[int, type[ProblemError]] = {
    kind.status: kind
    for kind in (
        Unauthorized,
        OverBudget,
        Forbidden,
        NotFound,
        MethodNotAllowed,
        TooSlow,
        Conflict,
        BodyTooLarge,
        WrongMediaType,
        InvalidRequest,
        ModelFailed,
        Busy,
        NotReady,
        StorageFull,
    )
}


def problem_from_response(status: int, body: bytes) -> ProblemError:
    """The exception that a service's refusal stands for, also where the body is no problem document."""
    kind = KINDS.get(status, ProblemError)
    try:
        document = Problem.model_validate_json(body)
    except ValidationError:
        phrase = HTTPStatus(status).phrase if status in set(HTTPStatus) else "unknown status"
        return kind(f"the service answered {status} {phrase}")
    extra = document.model_extra or {}
    if kind is Busy:
        wait = extra.get("retry_after")
        return Busy(document.detail, retry_after=wait if isinstance(wait, int) and 0 <= wait <= LONGEST_WAIT else 1)
    return kind(document.detail, errors=document.errors, **extra)
