import subprocess
import sys

import pytest

from services.scorer.engine.words import Words
from services.scorer.model import random_llama
from services.scorer.model.loading import LoadError, load
from services.scorer.settings import Settings
from services.scorer.templates import load as load_templates


def test_every_process_builds_the_same_bytes() -> None:
    program = (
        "from services.scorer.model.loading import load; from services.scorer.settings import Settings; "
        "print(load(Settings(model='random')).revision)"
    )
    other = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.strip()
    assert other == load(Settings(model="random")).revision


DEVIATION = Settings().random_hidden ** -0.5


def test_settings_give_the_shape_and_the_seed() -> None:
    shape = {"hidden": 48, "layers": 3, "heads": 6, "key_value_heads": 2, "intermediate": 40}
    given = Settings(model="random", **{f"random_{name}": size for name, size in shape.items()})
    config = load(given).model.config
    assert shape == {
        "hidden": config.hidden_size,
        "layers": config.num_hidden_layers,
        "heads": config.num_attention_heads,
        "key_value_heads": config.num_key_value_heads,
        "intermediate": config.intermediate_size,
    }
    for other in ({"random_seed": 7}, {"random_heads": 12}):
        assert load(given).revision != load(given.model_copy(update=other)).revision


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"random_hidden": 100}, "SCORER_RANDOM_HIDDEN is 100: give a multiple of 8"),
        ({"random_key_value_heads": 3}, "SCORER_RANDOM_KEY_VALUE_HEADS is 3: give a divisor of SCORER_RANDOM_HEADS, 4"),
        ({"random_hidden": 16_384, "random_layers": 256}, "give smaller SCORER_RANDOM_HIDDEN"),
    ],
)
def test_a_shape_that_cannot_be_is_refused(change: dict[str, int], told: str) -> None:
    with pytest.raises(LoadError, match=told):
        load(Settings(model="random", **change))


def test_weights_are_scaled_so_that_tokens_mix() -> None:
    for weight in load(Settings(model="random")).model.parameters():
        if weight.dim() > 1:
            assert abs(float(weight.std()) / DEVIATION - 1) < 0.02
            assert abs(float(weight.mean())) < 0.01


def test_any_text_survives_the_tokenizer() -> None:
    tokenizer = random_llama.build_tokenizer()
    for text in ("head", " a yes-man\n", "naïve 東京 \U0001f43e"):
        assert tokenizer.decode(tokenizer(text, add_special_tokens=False)["input_ids"]) == text


@pytest.mark.parametrize("name", ["triple", "triple_head", "tail", "head"])
def test_the_words_of_the_templates_are_single_tokens(name: str) -> None:
    words = Words(random_llama.build_tokenizer(), 64)
    for part in load_templates()[name].parts[::2]:
        marks = sum(part.count(mark) for mark in ",?:\n")
        assert len(words.constant(part)) == len(part.split()) + marks


def test_the_tokenizer_can_be_read_for_every_template_that_ships() -> None:
    words = Words(random_llama.build_tokenizer(), 64)
    assert words.answers(["yes", "no"]).lead.tolist() == []
    digits = words.answers([str(digit) for digit in range(10)])
    assert (len(digits.lead), len(set(digits.tokens.tolist()))) == (1, 10)
