"""The client's keys in its home: `key.pem`, and while it is being replaced `key-next.pem`.

The next key takes the present one's place only when the coordinators have taken it, so that one of the two is always
known to them, wherever a rotation is killed.
"""

import os
import stat
from pathlib import Path

from protocol.signatures import Signer
from trainer.files import whole
from trainer.reports import Report

PRESENT, NEXT = "key.pem", "key-next.pem"


class KeyUnusable(Exception):
    """A file that should hold a key does not; the message names it and the way out."""


def present_key(home: Path, report: Report) -> Signer:
    """The home's key; made where there is none.

    Raises:
        KeyUnusable: The file holds no Ed25519 key.
        OSError: It cannot be read or written.
    """
    return _read(home / PRESENT, report) or _make(home / PRESENT)


def next_key(home: Path, report: Report) -> Signer | None:
    """The key of a rotation that has begun and not ended; None where there is none.

    Raises:
        KeyUnusable, OSError: As `present_key`.
    """
    return _read(home / NEXT, report)


def begin_rotation(home: Path, report: Report) -> Signer:
    """The next key; that of a rotation that was begun before, where there is one.

    Raises:
        KeyUnusable, OSError: As `present_key`.
    """
    return _read(home / NEXT, report) or _make(home / NEXT)


def end_rotation(home: Path) -> None:
    """Put the next key in the place of the present one, which is gone from then on."""
    (home / NEXT).replace(home / PRESENT)


def _read(file: Path, report: Report) -> Signer | None:
    try:
        pem = file.read_bytes()
    except FileNotFoundError:
        return None
    if os.name == "posix" and stat.S_IMODE(file.stat().st_mode) & 0o077:
        report(f"{file} is open to other users of this machine; close it with: chmod 600 {file}")
    try:
        return Signer.from_pem(pem)
    except ValueError as error:
        raise KeyUnusable(
            f"{file}: not an Ed25519 private key in PEM ({error}); put a backup in its place, or move it away to be "
            "another client with a new key"
        ) from error


def _make(file: Path) -> Signer:
    signer = Signer.generate()
    with whole(file, mode=0o600) as out:
        out.write(signer.to_pem())
    return signer
