"""`/encode` and `/encode/gradient` over HTTP, against plain transformers calls, one a query."""

from typing import Any

import numpy as np
import pytest
import torch

from protocol import tensors
from protocol.encoding import ENCODE_GRADIENT_REPLY_TENSORS
from services.scorer.templates import load

from .conftest import Known
from .models import difference, plain_state
from .requests import (
    ENTITIES,
    QUERIES,
    QUERY,
    RELATIONS,
    SIDES,
    ST,
    TEXT_ONLY,
    Call,
    encode_call,
    sent,
    spoken,
    vectors,
)
from .serving import metric

TEMPLATES = load()
CLOSE = 2e-4


def layers(known: Known) -> int:
    count: int = known.model.config.num_hidden_layers
    return count


def plain(known: Known, call: Call, layer: int | None = None, leaves: Any = None) -> torch.Tensor:
    """[q, hidden]; `leaves` are the entities' and the relations' vectors."""
    entities, relations = leaves or (torch.from_numpy(call.entities), torch.from_numpy(call.relations))
    states = []
    for (entity, relation), side in zip(QUERIES.tolist(), SIDES.tolist(), strict=True):
        name = call.said.get("templates", ["query", "query_head"])[side]
        texts = [
            ", ".join(text[part] for part in ("name", "description") if part in text) or None
            for text in (ENTITIES[entity], RELATIONS[relation])
        ]
        given = (texts[0], None if entity == TEXT_ONLY else entities[entity])
        slots = {("tail" if side else "head"): given, "relation": (texts[1], relations[relation])}
        states.append(plain_state(known.model, TEMPLATES[name], slots, layer))
    return torch.stack(states)


@pytest.mark.parametrize("layer", ["last", "middle", 1, "all"])
def test_states_are_those_of_plain_calls_in_both_forms(known: Known, layer: str | int) -> None:
    asked = layers(known) if layer == "all" else layer
    call = encode_call(known.hidden, layer=asked)
    told = spoken(known, call)
    arrays, message = sent(known, call)
    # The last hidden state of transformers' own list is after the norm, as `last` is.
    plain_layer = {"last": None, "middle": max(1, layers(known) // 2)}.get(str(asked), asked)
    assert difference(arrays["states"], plain(known, call, plain_layer)) < CLOSE
    assert arrays["states"].tolist() == told["states"]
    assert message == {name: told[name] for name in message}
    assert told["template"] == "query+query_head"
    assert told["template_hash"] == known.get("/info").json()["query_hash"]


def test_all_queries_ask_for_tails_where_no_side_is_said(known: Known) -> None:
    call = encode_call(known.hidden)
    plainly = Call("/encode", known.hidden, {"queries": QUERIES})
    zeros = Call("/encode", known.hidden, {"queries": QUERIES, "sides": np.zeros_like(SIDES)})
    assert spoken(known, plainly)["states"] == spoken(known, zeros)["states"] != spoken(known, call)["states"]
    assert sent(known, plainly)[0]["states"].tolist() == spoken(known, zeros)["states"]


def test_templates_may_be_chosen_for_each_side(known: Known) -> None:
    call = encode_call(known.hidden, templates=["short", "head"])
    told = spoken(known, call)
    assert difference(told["states"], plain(known, call)) < CLOSE
    assert told["template"] == "short+head"
    assert told["template_hash"] != known.get("/info").json()["query_hash"]
    assert sent(known, call)[0]["states"].tolist() == told["states"]


@pytest.mark.parametrize("layer", ["last", 1])
def test_gradients_are_those_of_autograd_in_both_forms(known: Known, layer: str | int) -> None:
    grad_states = vectors(len(QUERIES), known.hidden, seed=2)
    call = encode_call(known.hidden, "/encode/gradient", grad_states=grad_states, layer=layer)
    leaves = [torch.from_numpy(part).requires_grad_() for part in (call.entities, call.relations)]
    states = plain(known, call, None if layer == "last" else 1, leaves)
    wanted = torch.autograd.grad(states, leaves, torch.from_numpy(grad_states))
    told = spoken(known, call)
    arrays, message = sent(known, call)
    assert "scores" not in told
    assert message == {name: told[name] for name in message}
    for name, gradient in zip(("entities", "relations"), wanted, strict=True):
        assert difference(arrays[name], gradient) < 1e-3 * float(gradient.abs().max())
        for row, part in enumerate(told[name]):
            if (name, row) == ("entities", TEXT_ONLY):
                assert part == []
                assert not arrays[name][row].any()
            else:
                assert part == arrays[name][row].tolist()


def test_a_forward_pass_that_was_kept_is_not_run_again_and_changes_nothing(known: Known) -> None:
    call = encode_call(known.hidden, "/encode/gradient", grad_states=vectors(len(QUERIES), known.hidden, seed=2))
    wanted, _ = sent(known, call)
    sent(known, encode_call(known.hidden, keep=True))
    assert metric(known, "kept_bytes") > 0
    with known.gate() as gate:
        found, _ = sent(known, call)
        assert gate.batches == [[]]  # a backward pass alone
        again, _ = sent(known, call)
        assert gate.batches[1]  # it was kept for one call
    for name in wanted:
        assert difference(found[name], wanted[name]) < 1e-5
        assert difference(again[name], wanted[name]) < 1e-6


def test_vectors_that_are_in_no_prompt_have_a_gradient_of_zeros(known: Known) -> None:
    queries = np.array([[0, 0]], dtype="i4")
    grad_states = vectors(1, known.hidden)
    call = Call("/encode/gradient", known.hidden, {"queries": queries, "grad_states": grad_states})
    arrays, _ = sent(known, call)
    assert arrays["entities"][0].any()
    assert not arrays["entities"][1:].any()
    assert not arrays["relations"][1].any()
    text_only = tensors.encode(
        {"entities": vectors(1, 2, known.hidden), "queries": queries, "grad_states": grad_states},
        {"entity_texts": {"0": {"name": "x", "text_only": True}}, "relation_texts": {"0": {"name": "r"}}},
    )
    reply = known.post("/encode/gradient", content=text_only, headers=ST)
    gradients, _ = tensors.decode(reply.content, ENCODE_GRADIENT_REPLY_TENSORS)
    assert list(gradients) == ["entities"]  # relations were not sent as vectors
    assert gradients["entities"].shape == (1, 2, known.hidden)
    assert not gradients["entities"].any()


def test_words_have_no_gradient(known: Known) -> None:
    told = known.post("/encode/gradient", json=QUERY | {"grad_states": [[1.0] * known.hidden]}).json()
    assert told["entities"] == told["relations"] == [[]]


def test_vectors_as_numbers_are_another_prompt_than_vectors(known: Known) -> None:
    body = QUERY | {"entities": [{"vectors": vectors(1, known.hidden).tolist()}]}
    shown = known.post("/encode", json=body | {"vectors_as": "numbers"}).json()
    input_ = known.post("/encode", json=body).json()
    assert shown["usage"]["tokens"] > input_["usage"]["tokens"]
    assert difference(shown["states"], input_["states"]) > 0.01
