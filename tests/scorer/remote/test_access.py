from pathlib import Path

import pytest

from services.scorer.model.loading import LoadError
from services.scorer.remote.access import check_url, key_of, length_field
from services.scorer.settings import Settings

LOCAL = "http://127.0.0.1:8080/v1"


def settings(url: str, key: str | None = None, file: Path | None = None) -> Settings:
    return Settings(openai_base_url=url, openai_api_key=key, openai_api_key_file=file)


def test_a_key_comes_from_the_environment_or_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("sk-file\n")
    assert key_of(settings(LOCAL)) is None
    assert key_of(settings(LOCAL, "sk-given")) == "sk-given"
    assert key_of(settings(LOCAL, file=file)) == "sk-file"


@pytest.mark.parametrize("content", ["", "two words", "two\nlines", "sk-ä", "sk-\x00"])
def test_a_key_that_no_header_can_hold_is_refused_without_being_named(content: str, tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text(content)
    with pytest.raises(LoadError, match=r"^SCORER_OPENAI_API_KEY .*printable ASCII.*$") as refusal:
        key_of(settings(LOCAL, file=file))
    assert not content or content not in str(refusal.value)


def test_a_missing_file_and_two_keys_are_refused(tmp_path: Path) -> None:
    with pytest.raises(LoadError, match=r"^SCORER_OPENAI_API_KEY_FILE.*cannot be read"):
        key_of(settings(LOCAL, file=tmp_path / "none"))
    with pytest.raises(LoadError, match="both set"):
        key_of(settings(LOCAL, "sk-a", tmp_path / "none"))


@pytest.mark.parametrize("url", ["http://vllm:8000/v1", "http://10.0.0.7/v1", "http://localhost.example.com/v1"])
def test_a_key_never_travels_in_clear(url: str) -> None:
    with pytest.raises(LoadError, match="in clear; use https"):
        key_of(settings(url, "sk-a"))
    assert key_of(settings(url)) is None
    assert key_of(settings(url.replace("http:", "https:"), "sk-a")) == "sk-a"


@pytest.mark.parametrize("url", [LOCAL, "http://localhost:1/v1", "http://[::1]:8080/v1", "http://127.1.2.3/v1"])
def test_this_machine_may_be_shown_the_key(url: str) -> None:
    check_url(url)
    assert key_of(settings(url, "sk-a")) == "sk-a"


def test_openai_itself_wants_a_key() -> None:
    with pytest.raises(LoadError, match=r"^SCORER_OPENAI_BASE_URL.*set SCORER_OPENAI_API_KEY"):
        key_of(Settings())


@pytest.mark.parametrize(
    "url", ["", "127.0.0.1:8080/v1", "ftp://host/v1", "http:///v1", "http://host:x/v1", "http://[/v1"]
)
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(LoadError, match=r"^SCORER_OPENAI_BASE_URL is no http or https address.*$"):
        check_url(url)


@pytest.mark.parametrize("url", ["https://u:secret@host/v1", "https://host/v1?key=secret", "https://host/v1#secret"])
def test_an_address_holds_no_secret(url: str) -> None:
    with pytest.raises(LoadError) as refusal:
        check_url(url)
    assert "secret" not in str(refusal.value)


def test_the_length_of_answers_is_limited_in_the_servers_own_words() -> None:
    assert length_field("https://api.openai.com/v1") == "max_completion_tokens"
    assert length_field("https://eu.api.openai.com/v1") == "max_completion_tokens"
    assert length_field("https://herd.openai.azure.com/openai/v1") == "max_completion_tokens"
    assert length_field(LOCAL) == length_field("https://notapi.openai.com.example/v1") == "max_tokens"
