"""The page of problems: what each kind means, and how to mend it."""

from protocol.problems import KINDS, PAGES, ProblemError


def problems() -> str:
    """Every kind of problem: what it means, and how to mend it."""
    kinds: tuple[type[ProblemError], ...] = (*KINDS.values(), ProblemError)
    lines = [
        "# Problems",
        "",
        "Whatever a service refuses is a problem document (RFC 9457), `application/problem+json`. Its `type` is the",
        f"path of the kind's page at the service itself, as `{PAGES}/busy`; `detail` says what went wrong this time",
        "and the way out; `errors` names the fields at fault; the reply's `X-Request-Id` is in the service's log too.",
    ]
    for kind in sorted(kinds, key=lambda each: each.status):
        lines += [
            "",
            f"## {kind.kind}",
            "",
            f"{kind.status}: {kind.title}.",
            "",
            kind.meaning(),
            "",
            f"**How to mend it.** {kind.mend}",
        ]
    return "\n".join(lines) + "\n"
