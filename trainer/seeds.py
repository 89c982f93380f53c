"""Seeds of random numbers: clients, rounds and modes share none."""

import hashlib


def seed_of(*parts: object) -> int:
    """A 62-bit seed that depends on every part."""
    digest = hashlib.sha256(repr(parts).encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 2
