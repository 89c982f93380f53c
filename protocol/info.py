"""Message of the scorer's `/info`: what is loaded, and every limit."""

import hashlib
from collections.abc import Iterable

from pydantic import Field

from protocol.messages import Readout, Strict


class Limits(Strict):
    """What one call may hold. Every limit that is refused with 413, 422 or 429 is here."""

    max_body_bytes: int
    max_prompts: int = Field(description="Triples, queries or candidates a call.")
    max_slots: int = Field(description="Entities a call, and relations a call.")
    max_vectors_per_slot: int
    max_prompt_tokens: int = Field(description="Positions of one prompt.")
    max_call_tokens: int = Field(description="Positions of all prompts of one call.")
    queue: int = Field(description="Calls that may wait, of each kind, before 429 is answered.")


class TemplateInfo(Strict):
    """One prompt template."""

    text: str
    hash: str = Field(description="SHA-256 of the text and of how it is read.")
    asks: str = Field(description="The slot that is asked for, the last one in the text.")
    readouts: list[Readout]
    labels: list[str] = Field(
        description="The answers that `verdict` compares: the first for true, the second for false."
    )


class Info(Strict):
    """`GET /info`: what is loaded, and every limit."""

    backend: str = Field(description="`llama` runs the model itself; `openai` asks another server.")
    model: str
    revision: str
    architecture: str
    dtype: str
    device: str
    quantization: str | None
    hidden: int
    layers: int
    vocabulary: int
    readouts: list[Readout]
    templates: dict[str, TemplateInfo]
    query_hash: str = Field(description="SHA-256 over the templates of both sides that `/encode` uses by default.")
    description_tokens: int = Field(description="Tokens to which a description is cut.")
    batch_tokens: int = Field(description="Tokens that run at once.")
    merge: bool = Field(description="Whether calls of different callers run together.")
    keep_seconds: float = Field(description="How long a forward pass that was kept waits for its gradient call.")
    limits: Limits


def combined_hash(hashes: Iterable[str]) -> str:
    """SHA-256 over the hashes of the templates of both sides, in their order, hexadecimal."""
    return hashlib.sha256("\n".join(hashes).encode()).hexdigest()
