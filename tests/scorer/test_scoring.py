"""`/score` and `/score/gradient` over HTTP, against plain transformers calls, one a prompt."""

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from protocol import tensors
from protocol.scoring import SCORE_REPLY_TENSORS
from services.scorer.templates import Template, load

from .conftest import Known
from .models import difference, plain_likelihood, plain_number, plain_score
from .requests import ENTITIES, RELATIONS, SHORT, ST, TEXT_ONLY, TRIPLES, Call, score_call, sent, spoken
from .serving import metric

TEMPLATES = load()
ASKED = np.array([[0, 0, TEXT_ONLY], [2, 1, TEXT_ONLY], [3, 1, TEXT_ONLY]], dtype="i4")
"""Triples whose tail has text alone, as `likelihood` needs it."""
PLAIN: dict[str, Any] = {"verdict": plain_score, "number": plain_number, "likelihood": plain_likelihood}
CLOSE = 2e-4


def said(text: dict[str, str]) -> str | None:
    return ", ".join(text[part] for part in ("name", "description") if part in text) or None


def plain(known: Known, call: Call, readout: str, template: Template, leaves: Any = None) -> torch.Tensor:
    """Scores, [t]; `leaves` are the entities' and the relations' vectors."""
    entities, relations = leaves or (torch.from_numpy(call.entities), torch.from_numpy(call.relations))
    scores = []
    for head, relation, tail in call.arrays["triples"].tolist():
        rows = {
            slot: (said(ENTITIES[row]), None if row == TEXT_ONLY else entities[row])
            for slot, row in (("head", head), ("tail", tail))
        }
        filled = rows | {"relation": (said(RELATIONS[relation]), relations[relation])}
        if readout == "likelihood":  # of the name alone
            filled["tail"] = (ENTITIES[tail]["name"], None)
        scores.append(PLAIN[readout](known.model, template, filled))
    return torch.stack(scores)


@pytest.mark.parametrize(
    ("readout", "template"),
    [
        ("verdict", "triple"),
        ("verdict", "short"),
        ("number", "number"),
        ("likelihood", "tail"),
        ("likelihood", "short"),
    ],
)
def test_scores_are_those_of_plain_calls_in_both_forms(known: Known, readout: str, template: str) -> None:
    triples = ASKED if readout == "likelihood" else TRIPLES
    call = score_call(known.hidden, triples=triples, readout=readout, template=template)
    told = spoken(known, call)
    arrays, message = sent(known, call)
    expected = plain(known, call, readout, TEMPLATES[template]).tolist()
    assert told["scores"] == pytest.approx(expected, abs=CLOSE)
    assert arrays.pop("scores").tolist() == told["scores"]
    for name in ("probabilities", "masses"):
        assert (name in arrays) == (name in told) == (readout == "verdict" or (readout, name) == ("number", "masses"))
        if name in told:
            assert arrays[name] == pytest.approx(np.array(told[name]), rel=1e-6)
            assert all(0 <= number <= 1 for number in told[name])
    assert message == {name: told[name] for name in message}
    assert told["readout"] == readout


def test_a_readout_has_its_own_template_where_none_is_named(known: Known) -> None:
    for readout, template in (("verdict", "triple"), ("number", "number"), ("likelihood", "tail")):
        named = spoken(known, score_call(known.hidden, triples=ASKED, readout=readout, template=template))
        assert spoken(known, score_call(known.hidden, triples=ASKED, readout=readout)) == named
        assert named["template_hash"] == known.get("/info").json()["templates"][template]["hash"]


def test_a_verdicts_probability_is_its_sigmoid(known: Known) -> None:
    told = spoken(known, score_call(known.hidden))
    assert told["probabilities"] == pytest.approx(torch.tensor(told["scores"]).sigmoid().tolist(), abs=1e-6)


def test_the_short_form_is_the_long_one(known: Known) -> None:
    names = [("gout", "has", "an ache"), ("an ache", "is in", "gout"), ("gout", "has", "an ache")]
    short = {"triples": [dict(zip(("head", "relation", "tail"), triple, strict=True)) for triple in names]}
    long = {
        "entities": [{"name": "an ache"}, {"name": "gout"}],
        "relations": [{"name": "is in"}, {"name": "has"}],
        "triples": [[1, 1, 0], [0, 0, 1], [1, 1, 0]],
    }
    first, second = (known.post("/score", json=body).json()["scores"] for body in (short, long))
    assert first == pytest.approx(second, abs=1e-5)
    assert first[0] == first[2] != first[1]


def test_a_description_follows_its_name_and_is_cut(known: Known) -> None:
    def score(entity: dict[str, str]) -> float:
        body = {"entities": [entity], "relations": [{"name": "is"}], "triples": [[0, 0, 0]]}
        return float(known.post("/score", json=body).json()["scores"][0])

    assert score({"name": "gout", "description": "a pain"}) == pytest.approx(score({"name": "gout, a pain"}), abs=1e-5)
    limit = known.get("/info").json()["description_tokens"]
    cut, longer = ("a " * words for words in (limit, limit + 5))
    assert score({"name": "gout", "description": cut}) == score({"name": "gout", "description": longer})


def test_vectors_as_numbers_are_read_as_words(known: Known) -> None:
    numbers = [round(0.01 * n - 0.5, 2) for n in range(known.hidden)]
    written = "[" + ", ".join(f"{number:.2f}" for number in numbers) + "]"
    body: dict[str, Any] = {"relations": [{"name": "is"}], "triples": [[0, 0, 1]], "readout": "number"}
    shown = [{"name": "gout", "vectors": [numbers]}, {"name": "an ache"}]
    asked = known.post("/score", json=body | {"entities": shown, "vectors_as": "numbers"})
    words = known.post("/score", json=body | {"entities": [{"name": f"gout {written}"}, {"name": "an ache"}]})
    assert asked.json()["scores"] == pytest.approx(words.json()["scores"], abs=1e-5)
    assert asked.json()["usage"] == words.json()["usage"]
    arrays = {"entities": np.array([[numbers]] * 2, dtype="f4"), "triples": np.array([[0, 0, 1]], dtype="i4")}
    texts = {"0": {"name": "gout"}, "1": {"name": "an ache", "text_only": True}}
    message = {"entity_texts": texts, "relation_texts": {"0": {"name": "is"}}, "readout": "number"}
    reply = known.post("/score", content=tensors.encode(arrays, message | {"vectors_as": "numbers"}), headers=ST)
    scores = tensors.decode(reply.content, SCORE_REPLY_TENSORS)[0]["scores"]
    assert scores.tolist() == asked.json()["scores"]


def test_usage_tells_what_was_shared(known: Known) -> None:
    one = spoken(known, score_call(known.hidden, triples=TRIPLES[:1]))["usage"]
    twice = spoken(known, score_call(known.hidden, triples=TRIPLES[[0, 0, 0]]))["usage"]
    assert twice["prompts"] == 3 * one["prompts"] == 3
    assert twice["tokens"] == 3 * one["tokens"]
    assert twice["shared_tokens"] >= 3 * one["shared_tokens"] > 0


GIVEN = np.array([0.5, -1, 0, 2, 0.25], dtype="f4")
GROUPS = np.array([7, 0, 7, 0, 7], dtype="i4")
"""The first of each group is its positive: triples 0 and 1."""
LABELS = np.array([1, 0, 0.5, 0, 1], dtype="f4")


def self_adversarial(scores: torch.Tensor, margin: float, temperature: float) -> torch.Tensor:
    losses = []
    for positive, negatives in ((scores[0], scores[[2, 4]]), (scores[1], scores[[3]])):
        weights = (temperature * negatives.detach()).softmax(0)
        far = (weights * F.logsigmoid(-margin - negatives)).sum()
        losses.append(-(F.logsigmoid(margin + positive) + far) / 2)
    return torch.stack(losses).mean()


def cross_entropy(scores: torch.Tensor) -> torch.Tensor:
    first = torch.tensor([0])
    return (F.cross_entropy(scores[None, [0, 2, 4]], first) + F.cross_entropy(scores[None, [1, 3]], first)) / 2


def margin_ranking(scores: torch.Tensor, margin: float) -> torch.Tensor:
    return F.margin_ranking_loss(scores[[0, 0, 1]], scores[[2, 4, 3]], torch.ones(3), margin)


LOSSES: list[Any] = [
    ({"name": "cross_entropy"}, {"groups": GROUPS}, cross_entropy),
    (
        {"name": "cross_entropy"},
        {"labels": LABELS},
        lambda s: F.binary_cross_entropy_with_logits(s, torch.from_numpy(LABELS)),
    ),
    ({"name": "margin_ranking", "margin": 3.0}, {"groups": GROUPS}, lambda s: margin_ranking(s, 3.0)),
    (
        {"name": "self_adversarial", "margin": 2.0, "temperature": 0.5},
        {"groups": GROUPS},
        lambda s: self_adversarial(s, 2.0, 0.5),
    ),
]


def check_gradients(known: Known, call: Call, loss: Any, readout: str = "verdict") -> None:
    """Both forms against autograd through plain calls."""
    leaves = [torch.from_numpy(part).requires_grad_() for part in (call.entities, call.relations)]
    scores = plain(known, call, readout, TEMPLATES["triple" if readout == "verdict" else "number"], leaves)
    value = loss(scores)
    wanted = torch.autograd.grad(value, leaves)
    told = spoken(known, call)
    arrays, message = sent(known, call)
    assert told["scores"] == pytest.approx(scores.tolist(), abs=CLOSE)
    assert arrays["scores"].tolist() == told["scores"]
    for name, gradient in zip(("entities", "relations"), wanted, strict=True):
        scale = float(gradient.abs().max())
        assert difference(arrays[name], gradient) < 1e-3 * scale, name
        for row, part in enumerate(told[name]):
            if (name, row) == ("entities", TEXT_ONLY):
                assert part == []
                assert not arrays[name][row].any()
            else:
                assert part == arrays[name][row].tolist()
    if "loss" in call.said:
        assert told["loss"] == message["loss"] == pytest.approx(float(value.detach()), rel=1e-3)
    else:
        assert "loss" not in told
        assert "loss" not in message


@pytest.mark.parametrize("readout", ["verdict", "number"])
def test_gradients_of_given_ones_are_those_of_autograd(known: Known, readout: str) -> None:
    call = score_call(known.hidden, "/score/gradient", grad_scores=GIVEN, readout=readout)
    check_gradients(known, call, lambda scores: (scores * torch.from_numpy(GIVEN)).sum(), readout)


@pytest.mark.parametrize(("loss", "given", "plain_loss"), LOSSES, ids=lambda part: str(part)[:40])
def test_a_named_loss_and_its_gradients_are_those_of_torch(
    known: Known, loss: dict[str, Any], given: dict[str, np.ndarray], plain_loss: Any
) -> None:
    check_gradients(known, score_call(known.hidden, "/score/gradient", loss=loss, **given), plain_loss)


def test_a_number_may_be_trained_with_a_loss_over_groups(known: Known) -> None:
    loss = {"name": "margin_ranking", "margin": 3.0}
    call = score_call(known.hidden, "/score/gradient", loss=loss, groups=GROUPS, readout="number")
    check_gradients(known, call, lambda scores: margin_ranking(scores, 3.0), "number")


@pytest.mark.parametrize("given", [{"grad_scores": GIVEN}, {"loss": {"name": "cross_entropy"}, "groups": GROUPS}])
def test_a_forward_pass_that_was_kept_is_not_run_again_and_changes_nothing(known: Known, given: Any) -> None:
    call = score_call(known.hidden, "/score/gradient", **given)
    wanted = spoken(known, call)
    scored = spoken(known, score_call(known.hidden, keep=True))
    assert metric(known, "kept_bytes") > 0
    ran = metric(known, "prompts_total", kind="gradient")
    with known.gate() as gate:
        found = spoken(known, call)
        assert gate.batches == [[]]  # a backward pass alone
    assert metric(known, "kept_bytes") == 0
    assert metric(known, "prompts_total", kind="gradient") == ran + len(TRIPLES)
    assert scored["scores"] == pytest.approx(found["scores"], abs=1e-6)
    assert found["scores"] == pytest.approx(wanted["scores"], abs=1e-6)
    for name in ("entities", "relations"):
        for ours, theirs in zip(found[name], wanted[name], strict=True):
            assert difference(ours, theirs) < 1e-5 if ours else theirs == []


def test_what_was_kept_answers_no_other_call(known: Known) -> None:
    spoken(known, score_call(known.hidden, keep=True))
    call = score_call(known.hidden, "/score/gradient", triples=TRIPLES[::-1].copy(), grad_scores=GIVEN)
    with known.gate() as gate:
        spoken(known, call)
        assert len(gate.batches[0]) == 1


def test_words_have_no_gradient_and_say_so_by_empty_rows(known: Known) -> None:
    told = known.post("/score/gradient", json=SHORT | {"grad_scores": [1.0]}).json()
    assert (told["entities"], told["relations"]) == ([[], []], [[]])
    assert len(told["scores"]) == 1
