"""The scorer's settings, read once from the environment; the variable of `dtype` is `SCORER_DTYPE`."""

from typing import Literal

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from protocol.scoring import Limits


class Settings(BaseSettings):
    """How the scorer runs. HF_ENDPOINT, HF_HOME and HF_TOKEN are read by the hub's client itself."""

    model_config = SettingsConfigDict(env_prefix="SCORER_", env_ignore_empty=True, frozen=True)

    model: str = Field(
        "embedded",
        min_length=1,
        description="`embedded` (a tiny LLaMA made in code, no network), a hub id as `meta-llama/Llama-3.2-1B`, or a "
        "folder with config.json, *.safetensors and a tokenizer.",
    )
    revision: str | None = Field(None, description="Branch, tag or commit of a hub model; a commit pins the weights.")
    dtype: Literal["float32", "bfloat16", "float16"] = Field("float32", description="Of weights and activations.")
    device: Literal["cpu", "cuda", "auto"] = Field("auto", description="`auto` is cuda where there is one, else cpu.")
    cache_dir: str | None = Field(None, description="Where hub models are kept; by default the hub client's own cache.")
    threads: int = Field(1, ge=1, le=1024, description="CPU threads that one call may use inside torch.")
    workers: int = Field(1, ge=1, le=1024, description="Calls that run at the same time; memory grows with it.")

    max_body_bytes: int = Field(64 << 20, ge=1024, description="Bytes of a request's body.")
    max_prompts: int = Field(16_384, ge=1, description="Triples or queries a call.")
    max_slots: int = Field(65_536, ge=1, description="Entities a call, and relations a call.")
    max_vectors_per_slot: int = Field(64, ge=1, description="Vectors that stand for one entity or relation.")
    max_prompt_tokens: int = Field(
        2_048, ge=1, description="Positions of one prompt; the model's own maximum holds where it is smaller."
    )
    max_call_tokens: int = Field(4_000_000, ge=1, description="Positions of all prompts of a call.")
    queue: int = Field(64, ge=1, description="Calls that may wait; one more is answered 429.")

    def limits(self, model_positions: int) -> Limits:
        """The limits that hold for a model that was made for so many positions."""
        return Limits(
            max_body_bytes=self.max_body_bytes,
            max_prompts=self.max_prompts,
            max_slots=self.max_slots,
            max_vectors_per_slot=self.max_vectors_per_slot,
            max_prompt_tokens=min(self.max_prompt_tokens, model_positions),
            max_call_tokens=self.max_call_tokens,
            queue=self.queue,
        )
