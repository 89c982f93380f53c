"""Who may call the scorer: who has its key, or everybody where it has none. The key is kept as a digest."""

import hashlib
import hmac
from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from protocol.problems import Unauthorized
from services.scorer.settings import Settings
from services.tokens import read_token

_bearer = HTTPBearer(auto_error=False, description="The scorer's API key, where it has one.")
Credentials = Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]


def read_key(settings: Settings) -> str | None:
    """The key that callers must send, None where none is set.

    Raises:
        SystemExit: Both the key and its file are set, the file is unreadable, or the key is too short. The message
            names the environment variable, never the key.
    """
    if settings.api_key is None and settings.api_key_file is None:
        return None
    try:
        return read_token("SCORER_API_KEY", settings.api_key, settings.api_key_file)
    except ValueError as error:
        raise SystemExit(f"The scorer cannot start: {error}") from None


class Gate:
    """Lets callers with the key through; without a key, everybody."""

    def __init__(self, key: str | None) -> None:
        self._digest = None if key is None else _digest(key.encode())

    def check(self, token: str | None) -> None:
        """Nothing, if a caller with this token may call.

        Raises:
            Unauthorized: It is absent, or not the key.
        """
        if self._digest is None:
            return
        if token is None:
            raise Unauthorized(
                "send the header `Authorization: Bearer <API key>`; whoever runs this scorer has the key"
            )
        # Starlette decodes headers as Latin-1; digests have one length, so that time tells nothing of the key's.
        if not hmac.compare_digest(_digest(token.encode("latin-1")), self._digest):
            raise Unauthorized("this is not the scorer's API key; ask whoever runs it for the key")


def _digest(token: bytes) -> bytes:
    return hashlib.sha256(token).digest()


async def _check(request: Request, credentials: Credentials) -> None:
    gate: Gate = request.app.state.gate
    gate.check(credentials.credentials if credentials else None)


RequireKey = Depends(_check)
"""For the routes that only callers with the key may call; the application holds its `Gate` as `app.state.gate`."""
