import hashlib
import hmac
from collections.abc import Callable

import pytest

from protocol.keys import MIN_KEY_BYTES, entity_keys, relation_keys

KEY = b"a key that the clients share"
NAMES = ["aspirin", "headache", "Ωmega 3", ""]


def test_keys_are_hmac_sha256_of_the_ids_in_the_given_order() -> None:
    assert entity_keys(KEY, NAMES) == [hmac.digest(KEY, n.encode("utf-8"), hashlib.sha256).hex() for n in NAMES]


def test_a_published_hmac_vector() -> None:
    # RFC 4231, test case 1.
    assert entity_keys(b"\x0b" * 20, ["Hi There"]) == [
        "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"
    ]


def test_another_shared_key_gives_unrelated_keys() -> None:
    assert not set(entity_keys(KEY, NAMES)) & set(entity_keys(KEY + b"!", NAMES))


def test_a_relation_has_another_key_than_an_entity_of_its_name() -> None:
    relations = relation_keys(KEY, NAMES)
    assert relations == [hmac.digest(KEY, b"relation\x00" + n.encode(), hashlib.sha256).hex() for n in NAMES]
    assert not set(relations) & set(entity_keys(KEY, NAMES))


@pytest.mark.parametrize("keys", [entity_keys, relation_keys])
def test_a_short_shared_key_is_refused(keys: Callable[[bytes, list[str]], list[str]]) -> None:
    with pytest.raises(ValueError, match="16 bytes"):
        keys(b"x" * (MIN_KEY_BYTES - 1), NAMES)
    assert len(entity_keys(b"x" * MIN_KEY_BYTES, NAMES)) == len(NAMES)
