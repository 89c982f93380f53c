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
from collections.abc import Iterable, Mapping, Sequence
from http import HTTPStatus
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

MEDIA_TYPE = "application/problem+json"
PAGES = "/problems"
"""Below it, a service has a page of each kind."""
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

    type: str = Field(description="Stable name of the kind of problem: the path of its page at the service.")
    title: str = Field(description="The kind of problem in words.")
    status: int = Field(description="The HTTP status code.")
    detail: Echo = Field(description="What went wrong in this request, and the way out.")
    errors: list[FieldError] = Field(default=[], description="The fields at fault, where fields are at fault.")


class ProblemError(Exception):
    """The service failed on a request that it should have answered.

    Every other refusal is a subclass. Subclasses fix the status; `detail` says what went wrong this time and the way
    out, `mend` what to do about problems of this kind.
    """

    status: ClassVar[int] = 500
    kind: ClassVar[str] = "internal-error"
    title: ClassVar[str] = "The service failed"
    mend: ClassVar[str] = (
        "Try again; if it goes on, look at the service's log for the reply's `X-Request-Id`, and report it."
    )

    def __init__(self, detail: str, /, *, errors: list[FieldError] | None = None, **extra: Any) -> None:
        super().__init__(detail)
        self.detail = detail
        self.errors = errors or []
        self.extra = extra

    @classmethod
    def meaning(cls) -> str:
        """What problems of this kind are, in a sentence or two."""
        return (cls.__doc__ or "").partition("\n\n")[0].strip()

    @classmethod
    def page(cls) -> str:
        """The `type` of its documents: where the service that sends one explains it, and how to mend it."""
        return f"{PAGES}/{cls.kind}"

    def document(self) -> Problem:
        """The problem document to send; `extra` becomes members of its own, as RFC 9457 allows."""
        return Problem(
            type=self.page(),
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
    mend = (
        "Operators send `Authorization: Bearer <token>` with the coordinator's operators' token; clients sign "
        "every request (RFC 9421) with the key that they joined with, anew for each attempt, and by a clock "
        "that is right. A scorer with an API key takes that key as bearer token."
    )

    @property
    def headers(self) -> dict[str, str]:
        """RFC 9110 asks every 401 to name the scheme."""
        return {"WWW-Authenticate": "Bearer"}


class OverBudget(ProblemError):
    """What may be spent on another server is spent."""

    status, kind, title = 402, "over-budget", "The cost cap is reached"
    mend = "Raise `SCORER_OPENAI_MAX_COST` and start the scorer anew, or ask less."


class Forbidden(ProblemError):
    """A valid token for something else."""

    status, kind, title = 403, "forbidden", "This token does not allow that"
    mend = (
        "Use the token or key that the route asks for: operators' routes take the operators' token, clients' "
        "routes a member's signature. A client that was removed cannot come back; one that has left joins "
        "again."
    )


class NotFound(ProblemError):
    """No such route, training or round."""

    status, kind, title = 404, "not-found", "Not found"
    mend = (
        "Look at the path, and at the id or number in it: `GET /docs` lists the routes, `GET /rounds` the "
        "trainings and rounds."
    )


class MethodNotAllowed(ProblemError):
    """The route exists for another method."""

    status, kind, title = 405, "method-not-allowed", "This method is not allowed here"
    mend = "Use a method that `GET /docs` lists for this path."

    def __init__(
        self, detail: str, /, *, errors: list[FieldError] | None = None, allowed: Sequence[str] = (), **extra: Any
    ) -> None:
        super().__init__(detail, errors=errors, **extra)
        self.allowed = allowed

    @property
    def headers(self) -> dict[str, str]:
        """RFC 9110 asks every 405 to name what is allowed."""
        return {"Allow": ", ".join(self.allowed)}


class TooSlow(ProblemError):
    """The body did not arrive in time."""

    status, kind, title = 408, "too-slow", "The request took too long to arrive"
    mend = "Send the body faster, or less in one call; whoever runs the service can raise its `BODY_SECONDS`."


class Conflict(ProblemError):
    """The request contradicts what is stored."""

    status, kind, title = 409, "conflict", "The request contradicts what is stored"
    mend = (
        "Look at what stands (`GET /round`, `GET /rounds`) and decide anew: a round that has closed takes no "
        "update, one training runs at a time, and what was stored for a round is not replaced."
    )


class BodyTooLarge(ProblemError):
    """The body, or the batch in it, is over a limit."""

    status, kind, title = 413, "body-too-large", "The request is over a limit"
    mend = (
        "Send less in one call: the reply names the limit, `/info` of a scorer lists all of its limits. "
        "Whoever runs the service can raise them."
    )


class WrongMediaType(ProblemError):
    """A body in a format that the route does not read."""

    status, kind, title = 415, "wrong-media-type", "The body's media type is not read here"
    mend = (
        "Send `Content-Type: application/json` or `application/safetensors`, whichever the route reads, and "
        "no `Content-Encoding`."
    )


class InvalidRequest(ProblemError):
    """A field is missing, malformed, non-finite or out of bounds."""

    status, kind, title = 422, "invalid-request", "A field of the request is invalid"
    mend = "Mend the fields that `errors` names; each message says what is taken."

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
    mend = (
        "Look at the scorer's log: the model ran out of memory, or another server that it asks answered with "
        "an error. Send less at once, or try again."
    )


class Busy(ProblemError):
    """The queue is full; try again after `retry_after` seconds."""

    status, kind, title = 429, "busy", "The service is busy"
    mend = "Wait for as many seconds as `Retry-After` says, and send the same request again."

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
    mend = "Wait until `GET /ready` answers 200 and try again; if it does not, the detail says what is missing."


class StorageFull(ProblemError):
    """The disk is full; nothing of the request was kept, and it can be repeated once there is room."""

    status, kind, title = 507, "storage-full", "There is no room to keep this"
    mend = "Make room on the service's disk, and send the same request again: nothing of it was kept."


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
