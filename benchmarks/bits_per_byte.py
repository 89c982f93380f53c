"""Claim: the embedded model takes fewer bits for held-out text than `xz -9` and 5-gram models that saw the same text.

Run: `python -m benchmarks.bits_per_byte CORPUS [MODEL]`, with the corpus that the model was trained on.
"""

import lzma
import sys
from collections.abc import Sequence
from pathlib import Path

from transformers import PreTrainedTokenizerFast

from benchmarks.measure import show
from benchmarks.ngrams import KneserNey
from services.scorer.model.loading import load
from services.scorer.settings import Settings
from tools.embedded_model import corpus
from tools.embedded_model.heldout import bits_per_byte
from tools.embedded_model.rows import encode_texts


def by_xz(train: Sequence[str], held_out: Sequence[str]) -> tuple[float, float]:
    """Bits per byte of the held-out texts alone, and of what they add to an archive of all."""
    size = sum(len(text.encode()) for text in held_out)
    alone, before, both = (
        len(lzma.compress("\n".join(texts).encode(), preset=9)) for texts in (held_out, train, [*train, *held_out])
    )
    return 8 * alone / size, 8 * (both - before) / size


def by_grams(train: Sequence[Sequence[int]], held_out: Sequence[Sequence[int]], symbols: int, size: int) -> float:
    """Bits per byte of a 5-gram model."""
    return float(-KneserNey(train, symbols).log2(held_out).sum()) / size


def main() -> None:
    """Measure and print."""
    if len(sys.argv) not in (2, 3):
        sys.exit("usage: python -m benchmarks.bits_per_byte CORPUS [MODEL]")
    model = load(Settings(model=sys.argv[2] if len(sys.argv) == 3 else "embedded"))
    tokenizer: PreTrainedTokenizerFast = model.tokenizer
    parts = corpus.split(corpus.read(Path(sys.argv[1])))
    train, held_out = ([entry.told for entry in part] for part in parts)
    size = sum(len(text.encode()) for text in held_out)
    # What ends a text is a symbol as well: the model is asked for it too.
    letters = [[[*text.encode(), 256] for text in texts] for texts in (train, held_out)]
    cut = [[document.tokens[1:].tolist() for document in encode_texts(tokenizer, part)] for part in parts]
    alone, added = by_xz(train, held_out)
    found = {
        "xz_alone": alone,
        "xz_after_training_text": added,
        "five_grams_of_bytes": by_grams(letters[0], letters[1], 257, size),
        "five_grams_of_tokens": by_grams(cut[0], cut[1], len(tokenizer), size),
        "model": bits_per_byte(model.model, tokenizer, parts[1]),
    }
    rows = [(name.replace("_", " "), f"{bits:.3f}") for name, bits in found.items()]
    show(f"{len(held_out)} held-out texts, {size:,} bytes", rows, ("", "bits per byte"), found)


if __name__ == "__main__":
    main()
