"""The random model: a LLaMA of any shape whose weights say nothing, and a tokenizer of bytes. Made in code, by a seed.

It is the control that tells what a trained model's weights add, and small enough for tests. Training works with it all
the same: what learns is the vectors put into its input.
"""

import torch
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from services.scorer.model import memory
from services.scorer.model.checkpoint import LoadError, planned
from services.scorer.settings import Settings

POSITIONS = 2048

SPECIAL = ("<pad>", "<s>", "</s>")
# Whole words of the shipped templates and the two verdicts; every other text is read byte by byte.
WORDS = ["Is", " this", " triple", " true", ",", " yes", " or", " no", "?", ":"]
WORDS += ["head", "relation", "tail", "answer"]


def configuration(settings: Settings, vocabulary: int) -> LlamaConfig:
    """The shape that the settings ask for.

    Raises:
        LoadError: The hidden size cannot be divided into the heads, or the heads into groups.
    """
    heads = settings.random_heads
    groups = settings.random_key_value_heads or heads
    if settings.random_hidden % (2 * heads):
        raise LoadError(
            f"SCORER_RANDOM_HIDDEN is {settings.random_hidden}: give a multiple of {2 * heads}, two for each head"
        )
    if heads % groups:
        raise LoadError(f"SCORER_RANDOM_KEY_VALUE_HEADS is {groups}: give a divisor of SCORER_RANDOM_HEADS, {heads}")
    return LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=settings.random_hidden,
        intermediate_size=settings.random_intermediate,
        num_hidden_layers=settings.random_layers,
        num_attention_heads=heads,
        num_key_value_heads=groups,
        max_position_embeddings=POSITIONS,
        tie_word_embeddings=True,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )


def build(settings: Settings) -> tuple[LlamaForCausalLM, PreTrainedTokenizerFast]:
    """The model in float32 on the CPU, and its tokenizer. Every process builds the same bytes.

    Raises:
        LoadError: There is no such shape, or it does not fit.
    """
    tokenizer = build_tokenizer()
    config = configuration(settings, len(tokenizer))
    need, free = memory.needed(planned(config), torch.float32, None), memory.available("cpu", spread=False)
    if need > free:
        raise LoadError(
            f"the random model needs {need / 1e9:.1f} GB, and {free / 1e9:.1f} GB are available; give smaller "
            "SCORER_RANDOM_HIDDEN, SCORER_RANDOM_LAYERS or SCORER_RANDOM_INTERMEDIATE"
        )
    model = LlamaForCausalLM(config)
    # About 1/sqrt(hidden): a random layer then changes its input as much as a trained one does. At the usual 0.02
    # attention is all but uniform, and the last position learns little of the vectors before it.
    deviation = settings.random_hidden**-0.5
    generator = torch.Generator().manual_seed(settings.random_seed)
    with torch.no_grad():
        for _, weight in sorted(model.named_parameters()):
            if weight.dim() == 1:
                weight.fill_(1.0)  # the norms' weights
            else:
                weight.copy_(_normal(weight.shape, generator) * deviation)
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
