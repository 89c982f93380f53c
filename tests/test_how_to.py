"""What the how-to pages show is code that runs, and does what they say."""

import re
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import torch

from protocol.trainings import AggregationSettings
from services.coordinator.aggregation.blocks import Block, Contribution
from services.scorer.templates import load
from trainer.interactions.base import NO_DROPOUT, Batch, Tables

PAGES = Path(__file__).parents[1] / "docs" / "how-to"


def block(page: str, language: str) -> str:
    """The page's only block of code in a language."""
    text = (PAGES / page).read_text(encoding="utf-8")
    (found,) = re.findall(rf"^ *```{language}[^\n]*\n(.*?)^ *```", text, re.DOTALL | re.MULTILINE)
    return textwrap.dedent(found)


def made_by(code: str) -> dict[str, Any]:
    made: dict[str, Any] = {}
    exec(code, made)
    return made


def test_the_interaction_of_the_page_scores_all_candidates() -> None:
    interaction = made_by(block("new-interaction.md", "python"))["Hadamard"]()
    numbers = torch.Generator().manual_seed(0)
    entities, relations = torch.rand(5, 4, generator=numbers), torch.rand(3, 4, generator=numbers)
    given, relation, side = (torch.tensor(values) for values in ([0, 2], [1, 2], [0, 0]))
    found = interaction.scores(Tables(entities, relations, {}), Batch(given, relation, side, NO_DROPOUT))
    expected = (entities[given].double() + relations[relation].double()) @ entities.double().T
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=1e-6)


def test_the_strategy_of_the_page_goes_half_way_and_leaves_the_rest() -> None:
    half_way = made_by(block("new-aggregation.md", "python"))["half_way"]
    before = np.array([[0.0], [8.0], [3.0]], np.float32)
    reports = [
        Contribution(0, np.array([0, 1]), np.array([[2.0], [4.0]], np.float32)),
        Contribution(1, np.array([0]), np.array([[6.0]], np.float32)),
    ]
    found = half_way(Block(before, {}, 2, lambda: iter(reports)), AggregationSettings())[""]
    np.testing.assert_array_equal(found, np.array([[2.0], [6.0], [3.0]], np.float32))


def test_the_template_of_the_page_is_one(tmp_path: Path) -> None:
    (tmp_path / "clinical.toml").write_text(block("new-template.md", "toml"))
    assert load(tmp_path)["clinical"].labels == ("correct", "wrong")
