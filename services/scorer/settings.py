"""The scorer's settings, read once from the environment; the variable of `dtype` is `SCORER_DTYPE`."""

from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from protocol.info import Limits


class Settings(BaseSettings):
    """How the scorer runs. HF_ENDPOINT, HF_HOME and HF_TOKEN are read by the hub's client itself."""

    model_config = SettingsConfigDict(
        env_prefix="SCORER_", env_ignore_empty=True, frozen=True, hide_input_in_errors=True
    )

    backend: Literal["llama", "openai"] = Field(
        "llama", description="`llama` runs a model here; `openai` asks a server with an OpenAI-compatible API."
    )
    model: str = Field(
        "embedded",
        min_length=1,
        description="`embedded` (a small trained LLaMA that ships with the scorer, no network), a hub id as "
        "`meta-llama/Llama-3.2-1B`, a folder with config.json, *.safetensors and a tokenizer, or `random` (untrained "
        "weights, made in code). With the `openai` backend, that server's name for it.",
    )
    revision: str | None = Field(None, description="Branch, tag or commit of a hub model; a commit pins the weights.")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto", description="Of weights and activations; `auto` is bfloat16 on a GPU and float32 on the CPU."
    )
    device: Literal["cpu", "cuda", "auto"] = Field("auto", description="`auto` is cuda where there is one, else cpu.")
    device_map: Literal["auto", "balanced", "sequential"] | None = Field(
        None,
        description="How to lay a model over several GPUs: `auto`, `balanced` or `sequential`; needs the `gpu` extra.",
    )
    quantization: Literal["8bit", "4bit"] | None = Field(
        None, description="`8bit` or `4bit` weights (bitsandbytes); needs the `gpu` extra."
    )
    cache_dir: str | None = Field(None, description="Where hub models are kept; by default the hub client's own cache.")
    random_seed: int = Field(20_260_101, ge=0, lt=1 << 63, description="Of the weights of the model `random`.")
    random_hidden: int = Field(128, ge=2, le=16_384, description="Hidden size of the model `random`.")
    random_layers: int = Field(1, ge=1, le=256, description="Its layers.")
    random_heads: int = Field(4, ge=1, le=256, description="Its attention heads.")
    random_key_value_heads: int | None = Field(
        None, ge=1, le=256, description="Its heads of keys and values; by default as many as attention heads."
    )
    random_intermediate: int = Field(256, ge=1, le=65_536, description="Width of its MLPs.")
    templates: Path | None = Field(
        None, description="A folder of prompt templates (*.toml), or one such file, beside those that ship."
    )
    description_tokens: int = Field(64, ge=1, description="Tokens to which an entity's description is cut.")

    workers: int = Field(1, ge=1, le=1024, description="Batches that run at the same time; memory grows with it.")
    threads: int | None = Field(
        None, ge=1, le=1024, description="CPU threads a batch; by default the cores divided among the workers."
    )
    batch_tokens: int | None = Field(
        None, ge=16, description="Tokens that run at once; by default as many as suit the model and the device."
    )
    merge: bool = Field(
        True,
        description="Run waiting calls of different callers in one batch. Off, a result's last bits never depend on "
        "who else called.",
    )
    keep_seconds: float = Field(
        10.0, ge=0, le=3600, description="How long what `/encode` and `/score` keep on request waits for its gradient."
    )
    keep_bytes: int = Field(
        1 << 30, ge=0, description="Memory for what is kept, estimated; past it the oldest is dropped and run again."
    )

    api_key: SecretStr | None = Field(
        None, description="Bearer token of callers, at least 16 characters. Or give its file."
    )
    api_key_file: Path | None = Field(None, description="File that holds the callers' token.")

    max_body_bytes: int = Field(64 << 20, ge=1024, description="Bytes of a request's body.")
    body_seconds: float = Field(
        60.0,
        gt=0,
        le=3600,
        description="How long a request's body may take to arrive, and a client may take no part of its reply.",
    )
    max_prompts: int = Field(16_384, ge=1, description="Triples, queries or candidates a call.")
    max_slots: int = Field(65_536, ge=1, description="Entities a call, and relations a call.")
    max_vectors_per_slot: int = Field(64, ge=1, description="Vectors that stand for one entity or relation.")
    max_prompt_tokens: int = Field(
        2_048, ge=1, description="Positions of one prompt; the model's own maximum holds where it is smaller."
    )
    max_call_tokens: int = Field(4_000_000, ge=1, description="Positions of all prompts of a call.")
    queue: int = Field(
        64, ge=1, description="Calls for scores, and calls for gradients, that may wait; one more is answered 429."
    )

    openai_base_url: str = Field("https://api.openai.com/v1", description="Where the OpenAI-compatible server is.")
    openai_api_key: SecretStr | None = Field(None, description="Its key, where it wants one. Or give its file.")
    openai_api_key_file: Path | None = Field(None, description="File that holds its key.")
    openai_concurrency: int = Field(16, ge=1, le=1024, description="Prompts that it is asked at the same time.")
    openai_retries: int = Field(5, ge=0, le=20, description="How often a prompt is asked again after a fault or a 429.")
    openai_timeout: float = Field(60.0, gt=0, le=3600, description="Seconds that one answer may take.")
    openai_candidates: int = Field(
        1, ge=1, le=100, description="Candidates of one query that a prompt of the readout `number` lists."
    )
    openai_input_price: float = Field(0.0, ge=0, description="Price of a million tokens sent, in any currency.")
    openai_output_price: float = Field(0.0, ge=0, description="Price of a million tokens received.")
    openai_max_cost: float | None = Field(
        None, ge=0, description="In that currency: once a process would spend more, it refuses with 402."
    )

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
