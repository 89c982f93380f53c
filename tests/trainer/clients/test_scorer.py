"""The typed client against a real scorer: it answers what plain HTTP answers."""

from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import BaseModel

from protocol.encoding import EncodeGradientRequest, EncodeRequest
from protocol.problems import InvalidRequest, Unauthorized
from protocol.ranking import RankRequest
from protocol.scoring import ScoreGradientRequest, ScoreRequest
from services.scorer import pages
from tests.scorer.serving import Process, scorer
from trainer.clients import Scorer

KEY = "the-key-of-this-test's-scorer"
CALLS: list[tuple[str, str, type[BaseModel], dict[str, Any]]] = [
    ("score", "/score", ScoreRequest, pages.SCORE_EXAMPLES),
    ("score_gradient", "/score/gradient", ScoreGradientRequest, pages.SCORE_GRADIENT_EXAMPLES),
    ("rank", "/rank", RankRequest, pages.RANK_EXAMPLES),
    ("encode", "/encode", EncodeRequest, pages.ENCODE_EXAMPLES),
    ("encode_gradient", "/encode/gradient", EncodeGradientRequest, pages.GRADIENT_EXAMPLES),
]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    with scorer(tmp_path_factory.mktemp("scorer"), SCORER_MODEL="embedded", SCORER_API_KEY=KEY) as process:
        yield process


@pytest.fixture
def client(running: Process) -> Iterator[Scorer]:
    with Scorer.at(str(running.base_url), KEY) as calls:
        yield calls


@pytest.mark.parametrize(("method", "path", "kind", "examples"), CALLS, ids=[call[0] for call in CALLS])
def test_the_examples_of_the_api_page(
    client: Scorer, running: Process, method: str, path: str, kind: type[BaseModel], examples: dict[str, Any]
) -> None:
    for body in examples.values():
        plain = running.post(path, json=body, headers={"authorization": f"Bearer {KEY}"}).json()
        typed = getattr(client, method)(kind.model_validate(body)).model_dump(mode="json")
        assert _close(typed, plain), (typed, plain)


def _close(typed: Any, plain: Any) -> bool:
    """Equal but for the last bits of numbers, which depend on who else is answered at the same time."""
    if isinstance(plain, dict):
        return all(_close(typed[name], value) for name, value in plain.items() if name != "usage")
    if isinstance(plain, list):
        return len(typed) == len(plain) and all(map(_close, typed, plain))
    return typed == pytest.approx(plain, rel=1e-4, abs=1e-5) if isinstance(plain, float) else typed == plain


def test_names_are_scored_in_their_order(client: Scorer) -> None:
    triples = [("aspirin", "treats", "headache"), ("aspirin", "treats", "Germany")]
    both = client.score_names(triples)
    turned = client.score_names(triples[::-1])
    assert both.scores == pytest.approx(turned.scores[::-1], rel=1e-4)
    assert client.info().revision == both.revision


def test_refusals_are_exceptions_that_name_the_field(client: Scorer, running: Process) -> None:
    with pytest.raises(InvalidRequest, match="template"):
        client.score_names([("a", "b", "c")], template="none")
    with Scorer.at(str(running.base_url), "another-key-that-is-wrong") as stranger, pytest.raises(Unauthorized):
        stranger.info()
