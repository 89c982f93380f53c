"""Who may join: who brings the invitation token, and whose key an operator has put on the list."""

import hmac
from collections.abc import Iterator
from pathlib import Path

import structlog

from protocol.problems import Forbidden, NotReady
from protocol.signatures import public_bytes, thumbprint

log: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(__name__)


class Invitations:
    """The two ways in. At least one of them is set.

    Args:
        token: The invitation token, if there is one.
        allowed: File of public keys, one a line, each with what people want to note behind it; `#` begins a comment.
    """

    def __init__(self, token: str | None, allowed: Path | None) -> None:
        self._token, self._allowed = token, allowed

    def check(self, token: str | None, key_id: str) -> bytes | None:
        """Raise unless the holder of a key may join. Nothing of the request but its head has been read.

        Returns:
            The key, where it is on the list; None where a token was brought.

        Raises:
            Forbidden: Neither way is open to it.
            NotReady: The list cannot be read; then nobody is on it.
        """
        if token is not None and self._token is not None and hmac.compare_digest(token.encode(), self._token.encode()):
            return None
        if self._allowed is not None and (listed := self._listed(self._allowed).get(key_id)):
            return listed
        if self._token is None:
            raise Forbidden("an operator has to put this key on the list of those that may join", key=key_id)
        wanted = (
            "joining needs the invitation token as `Authorization: Bearer <token>`"
            if token is None
            else "the token that was sent is not this coordinator's invitation"
        )
        raise Forbidden(wanted + (", and no operator has listed this key" if self._allowed else ""), key=key_id)

    @staticmethod
    def _listed(file: Path) -> dict[str, bytes]:
        """The keys by their thumbprints."""
        try:
            return {thumbprint(key): key for key in _keys(file)}
        except (OSError, ValueError) as error:
            # A list with a broken line may lack the line that was meant, so it lets nobody in.
            log.error("the list of allowed keys cannot be read", file=str(file), reason=str(error))
            raise NotReady("the coordinator cannot read its list of keys; its operator finds why in the log") from error


def _keys(file: Path) -> Iterator[bytes]:
    """The public keys in a file. Raises OSError or ValueError, which names the line."""
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), start=1):
        if words := line.split("#")[0].split():
            try:
                yield public_bytes(words[0])
            except ValueError as error:
                raise ValueError(f"line {number} does not begin with a public key: {error}") from error
