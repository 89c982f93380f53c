"""Signatures against what the RFCs print, and against a signature base that is put together here by hand."""

import base64
import hashlib
import re

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from protocol.problems import Unauthorized
from protocol.signatures import (
    COVERED,
    Signer,
    content_digest,
    digest_of,
    proves,
    public_bytes,
    public_text,
    read_signature,
    rotation_words,
    thumbprint,
    verify,
)

NOW = 1_700_000_000
PRIVATE = Ed25519PrivateKey.from_private_bytes(hashlib.sha256(b"a key").digest())
SIGNER = Signer(PRIVATE, lambda: NOW + 0.9)
URL = "https://coordinator.example/round/7/update?a=b%20c&d"
BODY = b"a body"


def signed(method: str = "PUT", url: str = URL, body: bytes = BODY) -> dict[str, str]:
    return {name.lower(): value for name, value in SIGNER.headers(method, url, content_digest(body)).items()}


def test_a_thumbprint_is_that_of_the_rfc() -> None:
    # RFC 8037, appendix A.3.
    public = public_bytes("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo")
    wanted = base64.urlsafe_b64decode("kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k=")
    assert thumbprint(public) == wanted.hex()
    assert public_text(public) == "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"


def test_a_content_digest_is_that_of_the_rfc() -> None:
    # RFC 9530, appendix B.1.
    assert content_digest(b'{"hello": "world"}\n') == "sha-256=:RK/0qy18MlBSVnWgjwz6lZEWjP/lF5HF9bvEF8FabDg=:"
    assert digest_of(hashlib.sha256(BODY).digest()) == content_digest(BODY)


def test_the_signature_is_of_the_base_that_rfc_9421_describes() -> None:
    headers = signed()
    found = re.fullmatch(r"sig=(.*)", headers["signature-input"])
    assert found is not None
    base = "\n".join(
        [
            '"@method": PUT',
            '"@path": /round/7/update',
            '"@query": ?a=b%20c&d',
            f'"content-digest": {content_digest(BODY)}',
            f'"@signature-params": {found[1]}',
        ]
    )
    signature = base64.b64decode(headers["signature"].removeprefix("sig=:").removesuffix(":"))
    PRIVATE.public_key().verify(signature, base.encode())
    assert f';created={NOW};keyid="{SIGNER.key_id}";alg="ed25519";nonce="' in found[1]
    assert found[1].endswith(';tag="tripleherd"')


def test_what_was_signed_is_read_and_verified() -> None:
    headers = signed()
    found = read_signature(headers)
    assert (found.key_id, found.created, found.digest) == (SIGNER.key_id, NOW, hashlib.sha256(BODY).digest())
    verify("PUT", URL.replace("https://coordinator.example", "http://inside:8001"), headers, _public())


def test_no_two_signatures_have_one_nonce() -> None:
    assert len({read_signature(signed()).nonce for _ in range(100)}) == 100


def _public() -> bytes:
    return public_bytes(SIGNER.public_key)


@pytest.mark.parametrize(
    ("method", "url", "changes"),
    [
        ("POST", URL, {}),
        ("PUT", URL.replace("7", "8"), {}),
        ("PUT", URL.replace("b%20c", "b+c"), {}),
        ("PUT", URL.partition("?")[0], {}),
        ("PUT", URL, {"content-digest": content_digest(b"another body")}),
        ("PUT", URL, {"created=1700000000": "created=1700000001"}),
        ("PUT", URL, {'nonce="': 'nonce="x'}),
        ("PUT", URL, {";tag": ";expires=1900000000;tag"}),
    ],
)
def test_a_changed_part_breaks_the_signature(method: str, url: str, changes: dict[str, str]) -> None:
    headers = signed()
    for name, value in changes.items():
        if name in headers:
            headers[name] = value
        else:
            assert name in headers["signature-input"]
            headers["signature-input"] = headers["signature-input"].replace(name, value)
    with pytest.raises(Unauthorized):
        verify(method, url, headers, _public())


def test_another_key_did_not_sign() -> None:
    with pytest.raises(Unauthorized):
        verify("PUT", URL, signed(), public_bytes(Signer.generate().public_key))


@pytest.mark.parametrize(
    "changes",
    [
        {"signature-input": None},
        {"signature": None},
        {"content-digest": None},
        {"content-digest": "sha-256=:AAAA:"},
        {"content-digest": "sha-512=:AAAA:"},
        {"content-digest": 'sha-256="text"'},
        {"signature-input": "nonsense"},
        {"signature-input": "sig=?1"},
        {"signature-input": "sig=1, sig2=2"},
        {"signature-input": "é" * 10},
        {"signature-input": "a=" + "(" * 4000},
        {'("@method" ': "("},
        {' "content-digest")': ")"},
        {'"@path"': '"@path";req'},
        {f'keyid="{SIGNER.key_id}"': 'keyid="someone"'},
        {'alg="ed25519"': 'alg="hmac-sha256"'},
        {'tag="tripleherd"': 'tag="other"'},
        {f"created={NOW}": "created=-5"},
        {f"created={NOW}": "created=999999999999999"},
        {f"created={NOW}": 'created="now"'},
        {f"created={NOW};": ""},
    ],
)
def test_what_is_no_signature_of_ours_cannot_be_read(changes: dict[str, str | None]) -> None:
    headers = signed()
    for name, value in changes.items():
        if value is None:
            del headers[name]
        elif name in headers:
            headers[name] = value
        else:
            assert name in headers["signature-input"]
            headers["signature-input"] = headers["signature-input"].replace(name, value)
    with pytest.raises(Unauthorized):
        read_signature(headers)


@given(
    st.sampled_from(["signature", "signature-input", "content-digest"]),
    st.text(st.characters(max_codepoint=255), max_size=200),
)
def test_headers_of_any_bytes_are_refused_and_nothing_else(name: str, value: str) -> None:
    headers = signed() | {name: value}
    with pytest.raises(Unauthorized):
        _take(headers)


def _take(headers: dict[str, str]) -> None:
    read_signature(headers)
    verify("PUT", URL, headers, _public())


def test_a_nonce_of_any_length_but_a_sane_one_is_refused() -> None:
    for nonce in ("short", "x" * 129, "sp ace" * 4):
        headers = signed()
        headers["signature-input"] = re.sub(r'nonce="[^"]*"', f'nonce="{nonce}"', headers["signature-input"])
        with pytest.raises(Unauthorized, match="nonce"):
            read_signature(headers)


def test_a_key_survives_its_file_and_others_are_refused() -> None:
    assert Signer.from_pem(SIGNER.to_pem()).key_id == SIGNER.key_id
    for pem in (b"", b"nonsense", SIGNER.to_pem()[:60]):
        with pytest.raises(ValueError, match=r"."):
            Signer.from_pem(pem)


def test_a_public_key_has_one_text() -> None:
    key = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"
    assert len(public_bytes(key)) == 32
    # Spellings that a lenient decoder takes for the same bytes: the last one differs in bits that are not read.
    for text in (key + ",", key + "=", f'"{key}"', key + "\n", key.replace("_", "/"), key[:-1] + "p"):
        with pytest.raises(ValueError, match=r"."):
            public_bytes(text)
    for text in ("", "A" * 42, "A" * 44, "!" * 43, "\N{SNOWMAN}" * 43):
        with pytest.raises(ValueError, match=r"."):
            public_bytes(text)


def test_only_the_holder_of_a_key_proves_it_for_one_client() -> None:
    proof = SIGNER.prove("client")
    assert proves(proof, "client", SIGNER.public_key)
    assert not proves(proof, "other", SIGNER.public_key)
    assert not proves(proof, "client", Signer.generate().public_key)
    assert b"client" in rotation_words("client", SIGNER.public_key)
    assert COVERED[0] == "@method"
