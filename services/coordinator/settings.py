"""Settings of the coordinator, read from the environment. Each exists once, here.

`app` reads them; the functions below it get plain values.
"""

from pathlib import Path

from pydantic import Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from services.tokens import MIN_TOKEN_LENGTH, read_token


class CoordinatorSettings(BaseSettings):
    """Environment variables `COORDINATOR_…`. Tokens have no default, so that nobody runs with a known one."""

    model_config = SettingsConfigDict(
        env_prefix="COORDINATOR_", env_ignore_empty=True, frozen=True, hide_input_in_errors=True
    )

    data_dir: Path = Field(
        Path("coordinator-data"), description="Folder of the SQLite file, the blobs and what is on its way to them."
    )
    database_url: SecretStr | None = Field(
        None,
        description="`postgresql://USER:PASSWORD@HOST/NAME`, which several coordinators may share; by default a SQLite "
        "file in the data folder.",
    )
    blobs: str | None = Field(
        None, description="fsspec URL of the blobs, as `s3://bucket/folder`; by default the data folder."
    )
    operator_token: SecretStr | None = Field(
        None, description=f"Bearer token of operators, at least {MIN_TOKEN_LENGTH} characters. Or give its file."
    )
    operator_token_file: Path | None = Field(None, description="File that holds the operators' token.")
    invitation_token: SecretStr | None = Field(
        None,
        description=f"Bearer token that lets any key join, at least {MIN_TOKEN_LENGTH} characters. Or give its file.",
    )
    invitation_token_file: Path | None = Field(None, description="File that holds the invitation token.")
    allowed_keys_file: Path | None = Field(
        None, description="File of public keys that may join without an invitation, one a line; read at each joining."
    )
    clock_window_seconds: float = Field(
        60.0, ge=1, le=3600, description="How far a client's clock may be from this one; nonces are kept for so long."
    )
    max_body_bytes: int = Field(512 << 20, ge=1024, description="A longer request body is refused with 413.")
    body_seconds: float = Field(
        600.0,
        gt=0,
        description="How long a request's body may take to arrive, and a client may take no part of its reply.",
    )
    scorer: str | None = Field(
        None, pattern=r"^https?://", description="Address of the scorer whose state the page shows; by default none."
    )
    scorer_key_file: Path | None = Field(None, description="File that holds that scorer's API key, where it has one.")
    max_wait_seconds: float = Field(30.0, gt=0, le=300, description="Longest wait of `GET /round?wait=`.")

    @model_validator(mode="after")
    def _tokens_are_usable(self) -> "CoordinatorSettings":
        if self.operator() == self.invitation():
            raise ValueError("the operators' token and the invitation token must differ: who may join is no operator")
        if self.invitation() is None and self.allowed_keys_file is None:
            raise ValueError(
                "nobody could join: set COORDINATOR_INVITATION_TOKEN, its _FILE, or COORDINATOR_ALLOWED_KEYS_FILE"
            )
        self.scorer_key()
        return self

    def operator(self) -> str:
        """The operators' token.

        Raises:
            ValueError: Not exactly one of token and file is set, the file is unreadable, or the token is too short.
        """
        return read_token("COORDINATOR_OPERATOR_TOKEN", self.operator_token, self.operator_token_file)

    def scorer_key(self) -> str | None:
        """The key of the scorer that the page shows; None where there is none.

        Raises:
            ValueError: The file is unreadable, or the key is too short.
        """
        if self.scorer_key_file is None:
            return None
        return read_token("COORDINATOR_SCORER_KEY", None, self.scorer_key_file)

    def invitation(self) -> str | None:
        """The invitation token; None where there is none, and only keys of the allow-list may join.

        Raises:
            ValueError: Both token and file are set, the file is unreadable, or the token is too short.
        """
        if self.invitation_token is None and self.invitation_token_file is None:
            return None
        return read_token("COORDINATOR_INVITATION_TOKEN", self.invitation_token, self.invitation_token_file)
