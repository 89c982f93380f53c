"""The secrets of a run on one machine. Keys that numbers depend on follow from the seed; tokens are drawn.

Entity keys decide where entity rows start, and a client's id, which its key gives, when it is drawn for a round and in
which order updates are added. With keys of its seed an experiment gives the same numbers again; nobody on this machine
is kept from them, and without the drawn tokens nobody else joins or operates.
"""

import hashlib
import secrets
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from protocol.signatures import Signer
from trainer.files import whole
from trainer.keys import PRESENT

SHARED_KEY, INVITATION, OPERATOR = "shared-key", "invitation", "operator"


def write_secrets(folder: Path, seed: int) -> None:
    """Write the clients' shared key, and fresh tokens, as files that only their owner can read."""
    texts = {SHARED_KEY: hashlib.sha256(f"shared key {seed}".encode()).hexdigest()}
    texts |= {name: secrets.token_hex(32) for name in (INVITATION, OPERATOR)}
    for name, text in texts.items():
        with whole(folder / name, mode=0o600) as out:
            out.write(text.encode())


def write_client_key(home: Path, client: str, seed: int) -> None:
    """Put a client's key into its home before it would draw one."""
    if not (home / PRESENT).exists():
        private = Ed25519PrivateKey.from_private_bytes(hashlib.sha256(f"client {client} {seed}".encode()).digest())
        with whole(home / PRESENT, mode=0o600) as out:
            out.write(Signer(private).to_pem())
