from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from tokenizers import Regex, Tokenizer, decoders, normalizers, pre_tokenizers
from tokenizers.models import BPE
from transformers import PreTrainedTokenizerFast

from services.scorer.engine.words import NoSingleTokens, Words
from services.scorer.model import random_llama
from services.scorer.requests import SlotText

EMBEDDED = random_llama.build_tokenizer()
DIGITS = list("0123456789")


def sentences(*words: str, bos: str | None = "<s>") -> Any:
    """Cuts as Llama 2 does: SentencePiece puts a space before a text, and knows these words with it."""
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "\u2581"]
    pieces += sorted({*"abcdefghijklmnopqrstuvwxyz", *DIGITS, *",:?<>/"})
    merges = []
    for word in words:
        starts = ["\u2581" + word[:end] for end in range(len(word) + 1)]
        merges += [(start, whole[-1]) for start, whole in pairwise(starts)]
        pieces += [start for start in starts if start not in pieces]
    vocabulary = {piece: number for number, piece in enumerate(pieces)}
    tokenizer = Tokenizer(BPE(vocab=vocabulary, merges=merges, byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
    tokenizer.decoder = decoders.Sequence([decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse()])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token=bos, eos_token="</s>", unk_token="<unk>")


def bytes_of(*words: str) -> Any:
    """Cuts as Llama 3 does: by bytes, digits by themselves, a word with the space before it; knows these words."""
    pattern = r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    pieces = ["<bos>", "<eos>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
    pieces += [level.pre_tokenize_str(word)[0][0] for word in words]
    vocabulary = {piece: number for number, piece in enumerate(dict.fromkeys(pieces))}
    tokenizer = Tokenizer(BPE(vocab=vocabulary, merges=[], ignore_merges=True))
    cut = pre_tokenizers.Split(Regex(pattern), behavior="isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([cut, level])
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<bos>", eos_token="<eos>")


def pieces(tokenizer: Any, ids: Any) -> list[str]:
    return tokenizer.convert_ids_to_tokens(list(ids))


LLAMA_2 = sentences("yes", "no", "head", "tail", "a")
LLAMA_3 = bytes_of(" yes", " no", "yes", "head", " tail", " or", " a", " b", " 0")


def test_words_after_others_have_one_space_before_them_whoever_writes_it() -> None:
    for tokenizer, mark in ((LLAMA_2, "\u2581"), (LLAMA_3, "\u0120"), (EMBEDDED, "\u0120")):
        words = Words(tokenizer, 64)
        found = pieces(tokenizer, words.slots([SlotText("yes")])[0])
        assert found == pieces(tokenizer, words.constant(" yes")) == [f"{mark}yes"]


def test_words_at_the_start_of_a_line_have_no_space_of_ours() -> None:
    assert pieces(LLAMA_3, Words(LLAMA_3, 64).constant("head")) == ["head"]
    assert pieces(LLAMA_2, Words(LLAMA_2, 64).constant("head")) == ["\u2581head"]
    assert pieces(LLAMA_3, Words(LLAMA_3, 64).constant("\nhead")) == ["\u010a", "head"]
    assert pieces(LLAMA_2, Words(LLAMA_2, 64).constant("\nhead")) == ["<0x0A>", *"head"]
    assert pieces(LLAMA_2, Words(LLAMA_2, 64).constant(", yes")) == [",", "\u2581yes"]


def test_spaces_at_the_end_of_words_belong_to_the_slot_that_follows() -> None:
    for tokenizer in (LLAMA_2, LLAMA_3):
        words = Words(tokenizer, 64)
        assert words.constant("head  ").tolist() == words.constant("head").tolist()
        assert words.constant(" ").tolist() == words.constant("").tolist() == []


def test_prompts_begin_with_the_tokenizers_own_token_where_it_has_one() -> None:
    assert pieces(LLAMA_3, Words(LLAMA_3, 64).bos) == ["<bos>"]
    assert Words(sentences("yes", bos=None), 64).bos.tolist() == []


def test_answers_of_one_token_each_follow_the_prompt_directly() -> None:
    for tokenizer, marked in ((LLAMA_2, ["\u2581no", "\u2581yes"]), (LLAMA_3, ["\u0120no", "\u0120yes"])):
        found = Words(tokenizer, 64).answers(["no", "yes"])
        assert found.lead.tolist() == []
        assert pieces(tokenizer, found.tokens) == marked


def test_digits_follow_the_space_that_the_tokenizer_cuts_from_them() -> None:
    for tokenizer, space in ((LLAMA_2, "\u2581"), (LLAMA_3, "\u0120"), (EMBEDDED, "\u0120")):
        found = Words(tokenizer, 64).answers(DIGITS)
        assert pieces(tokenizer, found.lead) == [space]
        assert pieces(tokenizer, found.tokens) == DIGITS


@pytest.mark.parametrize(
    "labels",
    [
        pytest.param(["yes", "perhaps"], id="more tokens than the other"),
        pytest.param(["ab", "cb"], id="the last tokens are equal"),
        pytest.param(["ab", "cd"], id="no common beginning"),
    ],
)
def test_answers_that_no_single_token_tells_apart_are_refused_by_name(labels: list[str]) -> None:
    for tokenizer in (LLAMA_2, LLAMA_3, EMBEDDED):
        with pytest.raises(NoSingleTokens, match=f"'{labels[0]}', '{labels[1]}'; give others"):
            Words(tokenizer, 64).answers(labels)


def test_special_tokens_in_a_text_are_letters() -> None:
    for tokenizer in (LLAMA_2, LLAMA_3, EMBEDDED):
        special = f"{tokenizer.bos_token}{tokenizer.eos_token}"
        [found] = Words(tokenizer, 64).slots([SlotText(special)])
        assert not {tokenizer.bos_token_id, tokenizer.eos_token_id} & set(found.tolist())
        assert tokenizer.decode(found).strip() == special


def told(text: SlotText, budget: int = 64) -> str:
    return EMBEDDED.decode(Words(EMBEDDED, budget).slots([text])[0])


def test_a_slot_reads_name_description_and_numbers() -> None:
    assert told(SlotText(" ab ", " c d ")) == " ab, c d"
    assert told(SlotText(description="c d")) == " c d"
    assert told(SlotText("ab", numbers="[0.12]")) == " ab [0.12]"
    assert told(SlotText("ab", "c", "[0.12]")) == " ab, c [0.12]"
    assert told(SlotText(numbers="[0.12]")) == " [0.12]"


def test_blank_text_has_no_tokens() -> None:
    found = Words(EMBEDDED, 64).slots([SlotText("  "), SlotText(description=" \n"), SlotText(), SlotText("a")])
    assert [len(ids) for ids in found] == [0, 0, 0, 2]


def test_a_description_is_cut_to_its_budget_and_a_name_never() -> None:
    assert told(SlotText("a long name", "cdefgh"), budget=3) == " a long name, cd"  # the space is one of the three
    assert told(SlotText("a long name"), budget=1) == " a long name"
    assert told(SlotText(description="cdefgh"), budget=3) == " cd"
    assert told(SlotText("ab", "cdefgh", "[0.12]"), budget=3) == " ab, cd [0.12]"


def test_a_blank_name_adds_nothing_to_the_descriptions_budget() -> None:
    assert told(SlotText("  ", "cdefgh"), budget=3) == " cd"


def test_texts_are_cut_each_by_itself_however_many_come_at_once() -> None:
    said = [SlotText("a"), SlotText("yes", "no"), SlotText("yes"), SlotText("tail", numbers="[1.00]")]
    for tokenizer in (LLAMA_2, LLAMA_3):
        words = Words(tokenizer, 64)
        alone = [words.slots([text])[0] for text in said]
        assert all(np.array_equal(*pair) for pair in zip(words.slots(said), alone, strict=True))
