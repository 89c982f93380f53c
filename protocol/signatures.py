"""Who sent a request, and that it is what was sent: HTTP message signatures (RFC 9421) with Ed25519 keys.

A signature covers the method, the path, the query and the body's digest (`Content-Digest`, RFC 9530, of no bytes where
there is no body), its time and a nonce. It does not cover the host, which proxies rewrite.

A key is known by its thumbprint, the SHA-256 of its JWK (RFC 7638, RFC 8037), in hexadecimal digits.
"""

import base64
import hashlib
import json
import re
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import http_sf
from cryptography.exceptions import InvalidSignature as ForgedSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from http_message_signatures import (
    HTTPMessageSigner,
    HTTPMessageVerifier,
    HTTPSignatureKeyResolver,
    InvalidSignature,
    algorithms,
)

from protocol.problems import Unauthorized

COVERED = ("@method", "@path", "@query", "content-digest")
LABEL, TAG, ALGORITHM = "sig", "tripleherd", "ed25519"
NONCE_BYTES = 18
PUBLIC_BYTES = 32
WAY_OUT = "sign the request with the client's key as docs/coordinator.md says"

_THUMBPRINT = re.compile(r"[0-9a-f]{64}")
_NONCE = re.compile(r"[A-Za-z0-9_-]{16,128}")
_LATEST = 1 << 40
"""A second far beyond any that a clock shows."""
_LONGEST_FIELD = 4096


def content_digest(body: bytes) -> str:
    """The `Content-Digest` of a body (RFC 9530), with SHA-256."""
    return digest_of(hashlib.sha256(body).digest())


def digest_of(sha256: bytes) -> str:
    """The `Content-Digest` of a body whose SHA-256 is known."""
    return f"sha-256=:{base64.b64encode(sha256).decode()}:"


def thumbprint(public: bytes) -> str:
    """The thumbprint of a public key (32 bytes), 64 hexadecimal digits (RFC 7638, section 3; RFC 8037, section 2)."""
    jwk = {"crv": "Ed25519", "kty": "OKP", "x": public_text(public)}
    return hashlib.sha256(json.dumps(jwk, separators=(",", ":"), sort_keys=True).encode()).hexdigest()


def public_text(public: bytes) -> str:
    """A public key (32 bytes) as it travels: base64url without padding."""
    return base64.urlsafe_b64encode(public).rstrip(b"=").decode()


def public_bytes(text: str) -> bytes:
    """The 32 bytes of a public key in the form of `protocol.members.PublicKey`.

    Raises:
        ValueError: It is not 32 bytes as `public_text` writes them.
    """
    public = base64.urlsafe_b64decode(text + "=")
    # The decoder skips what is not base64, and the last digit has bits that nothing reads: one key, one text.
    if len(public) != PUBLIC_BYTES or public_text(public) != text:
        raise ValueError(f"not {PUBLIC_BYTES} bytes as base64url without padding")
    return public


def rotation_words(client: str, public_key: str) -> bytes:
    """What a client's new key signs, so that nobody registers a key that somebody else holds."""
    return f"tripleherd: {public_key} is the key of client {client} from now on".encode()


class Signer:
    """A client's private key.

    Attributes:
        public_key: Its public part, as it travels.
        key_id: Its thumbprint.
    """

    def __init__(self, private: Ed25519PrivateKey, clock: Callable[[], float] = time.time) -> None:
        public = private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        self.public_key, self.key_id = public_text(public), thumbprint(public)
        self._private, self._clock = private, clock
        self._signer = HTTPMessageSigner(signature_algorithm=algorithms.ED25519, key_resolver=_Keys(private))

    @classmethod
    def generate(cls) -> "Signer":
        """A new key."""
        return cls(Ed25519PrivateKey.generate())

    @classmethod
    def from_pem(cls, pem: bytes) -> "Signer":
        """The key in a PKCS #8 PEM file without password.

        Raises:
            ValueError: It holds none, or none of Ed25519.
        """
        try:
            private = load_pem_private_key(pem, password=None)
        except TypeError as error:
            raise ValueError("the key is locked with a password") from error
        if not isinstance(private, Ed25519PrivateKey):
            raise ValueError("the key is not one of Ed25519")
        return cls(private)

    def to_pem(self) -> bytes:
        """The key as PKCS #8 PEM, without password."""
        return self._private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())

    def headers(self, method: str, url: str, digest: str) -> dict[str, str]:
        """The headers that sign a request now, with a nonce that no other request has.

        Args:
            method: In upper case.
            url: As it is requested; its path and query are covered.
            digest: The body's `content_digest`.
        """
        signed = {"Content-Digest": digest}
        message = _Message(method, url, signed)
        self._signer.sign(
            message,
            key_id=self.key_id,
            created=datetime.fromtimestamp(int(self._clock()), UTC),
            nonce=secrets.token_urlsafe(NONCE_BYTES),
            label=LABEL,
            tag=TAG,
            covered_component_ids=COVERED,
            use_existing_digest=True,
        )
        return signed

    def prove(self, client: str) -> str:
        """The proof of `protocol.members.KeyRotation` that this is to be the client's key."""
        return public_text(self._private.sign(rotation_words(client, self.public_key)))


def proves(proof: str, client: str, public_key: str) -> bool:
    """Whether the holder of a new key made this proof for the client."""
    key = Ed25519PublicKey.from_public_bytes(public_bytes(public_key))
    try:
        key.verify(base64.urlsafe_b64decode(proof + "=="), rotation_words(client, public_key))
    except ForgedSignature:
        return False
    return True


@dataclass(frozen=True)
class Signed:
    """What a signature says of itself; true once `verify` has been passed.

    Attributes:
        key_id: Thumbprint of the key that is said to have signed.
        created: Unix seconds.
        nonce: 16 to 128 characters.
        digest: SHA-256 that the body must have, 32 bytes.
    """

    key_id: str
    created: int
    nonce: str
    digest: bytes


def read_signature(headers: Mapping[str, str]) -> Signed:
    """What a request's signature says of itself, before it is known whether it is right.

    Raises:
        Unauthorized: There is none, or not exactly one in the form that this module writes.
    """
    try:
        (label, (covered, parameters)), *more = _dictionary(headers, "signature-input").items()
        if more or label not in _dictionary(headers, "signature"):
            raise ValueError("there is more than one signature")
        if [name for name, attributes in covered if not attributes] != list(COVERED) or len(covered) != len(COVERED):
            raise ValueError(f"it must cover {' '.join(COVERED)}, in this order, and no more")
        key, nonce, created = (parameters.get(name) for name in ("keyid", "nonce", "created"))
        if not isinstance(key, str) or not _THUMBPRINT.fullmatch(key):
            raise ValueError("keyid is not a key's thumbprint of 64 hexadecimal digits")
        if not isinstance(nonce, str) or not _NONCE.fullmatch(nonce):
            raise ValueError("nonce is not 16 to 128 characters of base64url")
        if type(created) is not int or not 0 <= created < _LATEST:
            raise ValueError("created is not a time in seconds")
        if (parameters.get("alg"), parameters.get("tag")) != (ALGORITHM, TAG):
            raise ValueError(f'alg must be "{ALGORITHM}" and tag "{TAG}"')
        return Signed(key, created, nonce, _sha256(headers))
    except (ValueError, TypeError) as error:
        raise Unauthorized(f"the signature cannot be read: {error}; {WAY_OUT}") from error


def verify(method: str, url: str, headers: Mapping[str, str], public: bytes) -> None:
    """Check the signature that `read_signature` has read.

    Args:
        method: Of the request.
        url: Whose path and query are as they were on the wire.
        headers: Of the request.
        public: The 32 bytes of the key that its keyid names.

    Raises:
        Unauthorized: This key did not sign this request.
    """
    verifier = _Verifier(
        signature_algorithm=algorithms.ED25519, key_resolver=_Keys(Ed25519PublicKey.from_public_bytes(public))
    )
    try:
        verifier.verify(_Message(method, url, headers), max_age=None, expect_tag=TAG, require_components=COVERED)
    except (InvalidSignature, ValueError) as error:
        raise Unauthorized(f"the signature does not fit the request, or is another key's; {WAY_OUT}") from error


def _dictionary(headers: Mapping[str, str], name: str) -> dict[str, Any]:
    """A header that is a dictionary of structured fields (RFC 9651)."""
    value = headers.get(name)
    if value is None:
        raise ValueError(f"the header {name} is missing")
    if len(value) > _LONGEST_FIELD:
        raise ValueError(f"the header {name} is too long")
    try:
        parsed: Any = http_sf.parse(value.encode("latin-1"), tltype="dictionary")
    except Exception as error:  # whatever the parser meets, it is the header's fault
        raise ValueError(f"the header {name} is not a dictionary of structured fields") from error
    if not parsed:
        raise ValueError(f"the header {name} is empty")
    return dict(parsed)


def _sha256(headers: Mapping[str, str]) -> bytes:
    digest = _dictionary(headers, "content-digest").get("sha-256", (None, {}))[0]
    if not isinstance(digest, bytes) or len(digest) != hashlib.sha256().digest_size:
        raise ValueError("the header content-digest holds no sha-256 of 32 bytes")
    return digest


@dataclass(frozen=True)
class _Message:
    """A request as the library wants it."""

    method: str
    url: str
    headers: Any = field(default_factory=dict)


class _Keys(HTTPSignatureKeyResolver):
    """One key, whatever its id: it was looked up before."""

    def __init__(self, key: Ed25519PrivateKey | Ed25519PublicKey) -> None:
        self._key = key

    def resolve_public_key(self, key_id: str) -> Any:
        return self._key

    def resolve_private_key(self, key_id: str) -> Any:
        return self._key


class _Verifier(HTTPMessageVerifier):
    """Leaves the time to the service, whose clock tests can set, and which says how far off the client's is."""

    def validate_created_and_expires(self, sig_input: Any, max_age: timedelta | None = None) -> None:
        """Nothing."""
