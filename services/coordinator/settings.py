"""Settings of the coordinator, read from the environment. Each exists once, here.

`app` reads them; the functions below it get plain values.
"""

from pathlib import Path

from pydantic import Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from services.tokens import MIN_TOKEN_LENGTH, read_token


class CoordinatorSettings(BaseSettings):
    """Environment variables `COORDINATOR_…`. The two tokens have no default, so that nobody runs with a known one."""

    model_config = SettingsConfigDict(
        env_prefix="COORDINATOR_", env_ignore_empty=True, frozen=True, hide_input_in_errors=True
    )

    data_dir: Path = Field(Path("coordinator-data"), description="Folder of the SQLite file and the tensor blobs.")
    operator_token: SecretStr | None = Field(
        None, description=f"Bearer token of operators, at least {MIN_TOKEN_LENGTH} characters. Or give its file."
    )
    operator_token_file: Path | None = Field(None, description="File that holds the operators' token.")
    invitation_token: SecretStr | None = Field(
        None, description=f"Bearer token for joining, at least {MIN_TOKEN_LENGTH} characters. Or give its file."
    )
    invitation_token_file: Path | None = Field(None, description="File that holds the invitation token.")
    max_body_bytes: int = Field(512 << 20, ge=1024, description="A longer request body is refused with 413.")
    max_wait_seconds: float = Field(30.0, gt=0, le=300, description="Longest wait of `GET /round?wait=`.")

    @model_validator(mode="after")
    def _tokens_are_usable(self) -> "CoordinatorSettings":
        if self.operator() == self.invitation():
            raise ValueError("the operators' token and the invitation token must differ: who may join is no operator")
        return self

    def operator(self) -> str:
        """The operators' token.

        Raises:
            ValueError: Not exactly one of token and file is set, the file is unreadable, or the token is too short.
        """
        return read_token("COORDINATOR_OPERATOR_TOKEN", self.operator_token, self.operator_token_file)

    def invitation(self) -> str:
        """The invitation token.

        Raises:
            ValueError: As for `operator`.
        """
        return read_token("COORDINATOR_INVITATION_TOKEN", self.invitation_token, self.invitation_token_file)
