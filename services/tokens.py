"""Bearer tokens that a service is given: in a setting, or in a file that a setting names."""

from pathlib import Path

from pydantic import SecretStr

MIN_TOKEN_LENGTH = 16


def read_token(name: str, value: SecretStr | None, file: Path | None) -> str:
    """The token, from the environment variable `name` or from the file that `name`_FILE names.

    Raises:
        ValueError: Not exactly one of the two is set, the file is unreadable, or the token is too short. The message
            names the variable and never the token.
    """
    if (value is None) == (file is None):
        raise ValueError(f"set exactly one of {name} and {name}_FILE")
    if value is not None:
        token = value.get_secret_value().strip()
    else:
        assert file is not None
        try:
            token = file.read_text().strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ValueError(f"{name}_FILE: cannot read {file} as text") from error
    if len(token) < MIN_TOKEN_LENGTH:
        raise ValueError(f"{name} must have at least {MIN_TOKEN_LENGTH} characters, as `openssl rand -hex 32` makes")
    return token
