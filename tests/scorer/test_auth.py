import asyncio
import json
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI

from services import web
from services.scorer.auth import Gate, RequireKey, read_key
from services.scorer.settings import Settings

KEY = "an-api-key-for-tests"


def app(key: str | None) -> FastAPI:
    made = FastAPI()
    made.state.gate = Gate(key)
    web.install(made)

    @made.post("/score", dependencies=[RequireKey])
    async def score() -> str:
        return "scored"

    return made


def call(key: str | None, header: str | bytes | None) -> httpx.Response:
    async def send() -> httpx.Response:
        transport = httpx.ASGITransport(app(key))
        async with httpx.AsyncClient(transport=transport, base_url="http://scorer") as client:
            return await client.post("/score", headers={} if header is None else {"authorization": header})

    return asyncio.run(send())


@pytest.mark.parametrize("header", [None, "Bearer anything", "nonsense"])
def test_without_a_key_everybody_may_call(header: str | None) -> None:
    assert call(None, header).json() == "scored"


@pytest.mark.parametrize("key", [KEY, "schlüssel-für-tests"])
def test_who_has_the_key_may_call(key: str) -> None:
    for scheme in ("Bearer", "bearer"):
        assert call(key, f"{scheme} {key}".encode()).json() == "scored"


@pytest.mark.parametrize(
    ("header", "way_out"),
    [
        (None, "send the header `Authorization: Bearer <API key>`"),
        ("Bearer", "send the header"),
        ("Basic b3A6b3A=", "send the header"),
        (f"Basic {KEY}", "send the header"),
        (KEY, "send the header"),
        ("Bearer another-key-than-that", "not the scorer's API key"),
        (f"Bearer {KEY}x", "not the scorer's API key"),
        (f"Bearer {KEY[:-1]}", "not the scorer's API key"),
        (f"Bearer {KEY.upper()}", "not the scorer's API key"),
        (b"Bearer \xff\xfe", "not the scorer's API key"),
    ],
)
def test_who_has_not_is_told_the_way_out(header: str | bytes | None, way_out: str) -> None:
    reply = call(KEY, header)
    assert (reply.status_code, reply.headers["www-authenticate"]) == (401, "Bearer")
    assert reply.headers["content-type"] == "application/problem+json"
    assert way_out in reply.json()["detail"]
    assert KEY not in reply.text


def test_the_api_page_knows_the_scheme() -> None:
    document = app(KEY).openapi()
    assert document["paths"]["/score"]["post"]["security"] == [{"HTTPBearer": []}]
    assert KEY not in json.dumps(document)


def test_the_key_comes_from_its_setting_or_its_file(tmp_path: Path) -> None:
    (tmp_path / "key").write_text(KEY + "\n")
    assert read_key(Settings.model_validate({"api_key": KEY})) == KEY
    assert read_key(Settings(api_key_file=tmp_path / "key")) == KEY
    assert read_key(Settings()) is None


def test_a_key_that_is_unusable_ends_the_start_with_one_line(tmp_path: Path) -> None:
    (tmp_path / "key").write_text(KEY)
    (tmp_path / "empty").touch()
    for settings, reason in [
        ({"api_key_file": tmp_path / "absent"}, "SCORER_API_KEY_FILE: cannot read"),
        ({"api_key_file": tmp_path / "empty"}, "SCORER_API_KEY must have at least 16 characters"),
        ({"api_key": " " * 20}, "SCORER_API_KEY must have at least 16 characters"),
        ({"api_key": KEY, "api_key_file": tmp_path / "key"}, "exactly one of SCORER_API_KEY and SCORER_API_KEY_FILE"),
    ]:
        with pytest.raises(SystemExit, match=f"^The scorer cannot start: .*{reason}") as caught:
            read_key(Settings.model_validate(settings))
        assert KEY not in str(caught.value)
        assert "\n" not in str(caught.value)


def test_the_key_is_not_shown() -> None:
    settings = Settings.model_validate({"api_key": KEY})
    assert KEY not in repr(settings)
    assert KEY not in str(vars(Gate(KEY)))
