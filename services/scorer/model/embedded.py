"""The embedded model: a tiny LLaMA and its tokenizer, made in code, so that the scorer runs without any download.

Its weights are random and frozen. That is enough to score with: what learns is the vectors put into its input.
"""

import torch
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

HIDDEN = 128
LAYERS = 1  # deeper ones cost more and did not learn better on small graphs
HEADS = 4
INTERMEDIATE = 256
POSITIONS = 2048
SEED = 20260101
# About 1/sqrt(hidden): a random layer then changes its input as much as a trained one does. At the usual 0.02
# attention is all but uniform, and the last position learns little of the vectors before it.
STANDARD_DEVIATION = HIDDEN**-0.5

SPECIAL = ("<pad>", "<s>", "</s>")
# Whole words of the shipped templates and the two verdicts; every other text is read byte by byte.
WORDS = ["Is", " this", " triple", " true", ",", " yes", " or", " no", "?", ":"]
WORDS += ["head", "relation", "tail", "answer"]


def build() -> tuple[LlamaForCausalLM, PreTrainedTokenizerFast]:
    """The model in float32 on the CPU, and its tokenizer. Every process builds the same bytes."""
    tokenizer = build_tokenizer()
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=HIDDEN,
        intermediate_size=INTERMEDIATE,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        num_key_value_heads=HEADS,
        max_position_embeddings=POSITIONS,
        tie_word_embeddings=True,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )
    model = LlamaForCausalLM(config)
    generator = torch.Generator().manual_seed(SEED)
    with torch.no_grad():
        for _, weight in sorted(model.named_parameters()):
            if weight.dim() == 1:
                weight.fill_(1.0)  # the norms' weights
            else:
                weight.copy_(_normal(weight.shape, generator) * STANDARD_DEVIATION)
    return model, tokenizer


def _normal(shape: torch.Size, generator: torch.Generator) -> Tensor:
    """Standard normal numbers, float32, as sums of twelve uniform integers.

    `torch.randn` differs between kinds of CPU in its last bits. Sums of integers do not, and two scorers must agree.
    """
    total = torch.zeros(shape, dtype=torch.int64)
    for _ in range(12):
        total += torch.randint(-(1 << 15), 1 << 15, shape, generator=generator)
    return (total + 6).float() / (1 << 16)


def build_tokenizer() -> PreTrainedTokenizerFast:
    """A tokenizer of bytes, with single tokens for `WORDS`."""
    split = pre_tokenizers.ByteLevel(add_prefix_space=False)
    words = [split.pre_tokenize_str(word)[0][0] for word in WORDS]
    pieces = list(SPECIAL) + sorted(pre_tokenizers.ByteLevel.alphabet())
    pieces += [word for word in words if word not in pieces]
    vocabulary = {piece: number for number, piece in enumerate(pieces)}
    # Without merges every word falls into bytes, save those that are in the vocabulary whole.
    tokenizer = Tokenizer(BPE(vocab=vocabulary, merges=[], ignore_merges=True))
    tokenizer.pre_tokenizer = split
    tokenizer.decoder = decoders.ByteLevel()
    pad, bos, eos = SPECIAL
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token=pad, bos_token=bos, eos_token=eos)
