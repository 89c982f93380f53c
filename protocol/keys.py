"""Opaque keys: how clients align their entities and relations without telling the coordinator their names.

All clients share one key that the coordinator never sees. An entity's key on the wire is HMAC-SHA256(shared key, entity
id): equal ids meet in one global row, and nothing else can be read from them. A relation's id has a prefix, so that it
cannot be told that an entity has the same name.
"""

import hashlib
import hmac
from collections.abc import Iterable

MIN_KEY_BYTES = 16
_RELATION = b"relation\x00"
"""Ids that people write do not begin so."""


def entity_keys(shared_key: bytes, entities: Iterable[str]) -> list[str]:
    """The wire keys of the entities, 64 lower-case hexadecimal digits each, in the given order.

    Raises:
        ValueError: The shared key is shorter than `MIN_KEY_BYTES` bytes.
    """
    return _keys(shared_key, b"", entities)


def relation_keys(shared_key: bytes, relations: Iterable[str]) -> list[str]:
    """The wire keys of the relations, as `entity_keys`; an entity of the same name has another one.

    Raises:
        ValueError: The shared key is shorter than `MIN_KEY_BYTES` bytes.
    """
    return _keys(shared_key, _RELATION, relations)


def _keys(shared_key: bytes, prefix: bytes, ids: Iterable[str]) -> list[str]:
    if len(shared_key) < MIN_KEY_BYTES:
        raise ValueError(f"the clients' shared key must have at least {MIN_KEY_BYTES} bytes")
    return [hmac.new(shared_key, prefix + id_.encode(), hashlib.sha256).hexdigest() for id_ in ids]
