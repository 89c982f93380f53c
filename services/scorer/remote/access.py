"""Where the OpenAI-compatible server is, and the key that it is shown."""

import ipaddress
from urllib.parse import urlsplit

from services.scorer.model.loading import LoadError
from services.scorer.settings import Settings

_OPENAI = ("api.openai.com", "openai.azure.com")
_KEY = "SCORER_OPENAI_API_KEY"
_URL = "SCORER_OPENAI_BASE_URL"


def key_of(settings: Settings) -> str | None:
    """The server's key, or None where none is set. No message holds any of it.

    Raises:
        LoadError: It is given twice, its file cannot be read, it cannot stand in a header, the server is one that
            wants a key and there is none, or it would travel in clear.
    """
    key = _read(settings)
    url = settings.openai_base_url
    if key is None:
        if _is_openai(url):
            raise LoadError(f"{_URL} is {url}, which wants a key; set {_KEY} or {_KEY}_FILE")
        return None
    # The HTTP client would quote a key that it cannot send.
    if not key.isascii() or not key.isprintable() or not key or " " in key:
        raise LoadError(f"{_KEY} (or its file) must be one line of printable ASCII without spaces")
    if urlsplit(url).scheme == "http" and not _is_loopback(urlsplit(url).hostname or ""):
        raise LoadError(f"{_URL} is {url}: the key would travel in clear; use https, or leave {_KEY} out")
    return key


def check_url(url: str) -> None:
    """Refuse what cannot be an API's base.

    Raises:
        LoadError: It is not http or https with a host, or holds more than a path.
    """
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:  # a port that is no number, brackets that do not close
        usable = False
    if not usable:
        raise LoadError(f"{_URL} is no http or https address; give one as http://127.0.0.1:8080/v1")
    # Whole addresses are logged by HTTP clients: what is secret must not stand in one.
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise LoadError(f"{_URL} must end with its path, and hold no user or password; the key goes into {_KEY}")


def length_field(url: str) -> str:
    """The request's field for the longest answer.

    All servers take `max_tokens`, and several ignore `max_completion_tokens`: there, answers would have no end, and no
    cost cap would hold. OpenAI's own refuse `max_tokens` for their newer models.
    """
    return "max_completion_tokens" if _is_openai(url) else "max_tokens"


def _read(settings: Settings) -> str | None:
    given, file = settings.openai_api_key, settings.openai_api_key_file
    if given is not None and file is not None:
        raise LoadError(f"{_KEY} and {_KEY}_FILE are both set; give one of them")
    if file is None:
        return None if given is None else given.get_secret_value().strip()
    try:
        return file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise LoadError(f"{_KEY}_FILE: {file} cannot be read ({type(error).__name__})") from None


def _is_openai(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    return any(host == name or host.endswith(f".{name}") for name in _OPENAI)


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
