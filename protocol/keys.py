"""Entity keys: how clients align their entities without telling the coordinator their names.

All clients share one key that the coordinator never sees. An entity's key on the wire is
HMAC-SHA256(shared key, entity id): equal ids meet in one global row, and nothing else can be read from them.
"""

import hashlib
import hmac
from collections.abc import Iterable

MIN_KEY_BYTES = 16


def entity_keys(shared_key: bytes, entities: Iterable[str]) -> list[str]:
    """The wire keys of the entities, 64 lower-case hexadecimal digits each, in the given order.

    Raises:
        ValueError: The shared key is shorter than `MIN_KEY_BYTES` bytes.
    """
    if len(shared_key) < MIN_KEY_BYTES:
        raise ValueError(f"the clients' shared key must have at least {MIN_KEY_BYTES} bytes")
    return [hmac.new(shared_key, entity.encode(), hashlib.sha256).hexdigest() for entity in entities]
