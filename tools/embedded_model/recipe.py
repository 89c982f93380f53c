"""The recipe: shape, schedule and shares. Another recipe is another training, with a folder of its own."""

import dataclasses
import hashlib
import json
from dataclasses import dataclass


@dataclass(frozen=True)
class Recipe:
    """How the embedded model is made.

    Attributes:
        seed: Of the weights, the order of the documents and the questions.
        vocabulary: Tokens of the BPE tokenizer, the special ones among them.
        hidden, intermediate, layers, heads: The shape of the LLaMA.
        positions: Tokens of a row, and the longest prompt that the model is made for.
        row_batch: Rows of a step.
        steps: Of the optimiser.
        warmup: Steps over which the rate rises; it falls to zero along a cosine over the others.
        rate: Highest learning rate, of Muon for the layers' matrices and of AdamW for the embedding and the norms.
        weight_decay: Of the layers' matrices.
        question_share: Share of the tokens that are questions; the others are texts.
        answer_weight: How much an answer's token counts in the loss, more than 1; a text's token counts 1.
        log_every: Steps between two lines of the log.
        evaluate_every: Steps between two readings of the held-out part, and between two checkpoints.
    """

    seed: int = 20_261_124
    vocabulary: int = 8_192
    hidden: int = 256
    intermediate: int = 688
    layers: int = 6
    heads: int = 8
    positions: int = 512
    row_batch: int = 8
    steps: int = 3_200
    warmup: int = 100
    rate: float = 4e-3
    weight_decay: float = 0.1
    question_share: float = 0.5
    answer_weight: float = 10.0
    log_every: int = 25
    evaluate_every: int = 250

    @property
    def hash(self) -> str:
        """SHA-256 of all numbers, hexadecimal."""
        return hashlib.sha256(json.dumps(dataclasses.asdict(self), sort_keys=True).encode()).hexdigest()
