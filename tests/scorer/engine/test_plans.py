import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from protocol.messages import HEAD, TAIL
from protocol.problems import BodyTooLarge, InvalidRequest
from services.scorer.engine.plans import Plan, Planner
from services.scorer.engine.trees import Root
from services.scorer.engine.words import NoSingleTokens, Words
from services.scorer.model import random_llama
from services.scorer.requests import EncodeCall, ScoreCall, Slots, SlotText
from services.scorer.templates import Template, load

from .calls import LIMITS, OWN, TEMPLATES, slots, texts
from .test_words import LLAMA_3

TOKENIZER = random_llama.build_tokenizer()


def planner(depth: int = 4, limits: Any = LIMITS, templates: Any = TEMPLATES, tokenizer: Any = TOKENIZER) -> Planner:
    made = Planner(Words(tokenizer, 64), limits, depth)
    for name, template in templates.items():
        made.add(name, template, Root(0, len(made.start(template))), shipped=name not in OWN)
    return made


def all_at_once(longest: int, depth: int) -> int:
    return 1 << 20


def length(text: str) -> int:
    return len(TOKENIZER(text, add_special_tokens=False)["input_ids"])


def score_call(triples: Sequence[Sequence[int]], readout: Any = "verdict", template: str | None = None) -> ScoreCall:
    """Entities of two vectors each, relations of one."""
    return ScoreCall(slots("vectors", 5, 1), slots("vectors", 3, 2, k=1), np.array(triples), readout, template)


def said(tails: Sequence[SlotText | str], template: str | None = None) -> ScoreCall:
    rows = np.array([[0, 0, 1 + n] for n in range(len(tails))])
    return ScoreCall(texts("h", *tails), texts("r"), rows, "likelihood", template)


def encode_call(queries: Sequence[Sequence[int]], sides: Sequence[int], **given: Any) -> EncodeCall:
    return EncodeCall(slots("vectors", 5, 1), slots("vectors", 3, 2, k=1), np.array(queries), np.array(sides), **given)


def usage(plan: Plan) -> tuple[int, int, int]:
    return plan.usage.prompts, plan.usage.tokens, plan.usage.shared_tokens


def prompt(made: Planner, plan: Plan) -> list[int]:
    """The token ids of a plan's only prompt."""
    [group] = plan.groups
    tree = group.prompts.tree(slice(0, 1), 0)
    assert tree.positions.tolist() == list(range(len(group.compiled.start), group.prompts.longest))
    return [*group.compiled.start.tolist(), *plan.bank.tokens[tree.rows].tolist()]


@pytest.mark.parametrize("tokenizer", [TOKENIZER, LLAMA_3], ids=["bytes", "as Llama 3"])
def test_a_prompt_is_cut_as_its_whole_text_would_be(tokenizer: Any) -> None:
    made = planner(tokenizer=tokenizer)
    entities, relations = texts("gout", "an ache"), texts("seen with")
    slots = {"head": "gout", "relation": "seen with", "tail": "an ache"}

    def ids(text: str) -> list[int]:
        return [tokenizer.bos_token_id, *tokenizer(text, add_special_tokens=False)["input_ids"]]

    for name, compiled in made.templates.items():
        text, asks = compiled.template.text.strip(), compiled.template.asks
        text = f" {text}" if text.startswith("{") else text  # a slot has a space before it, also where it comes first
        before = text[: text.index(f"{{{asks}}}")].rstrip().format(**slots)
        for readout in compiled.template.readouts:
            if readout == "state":
                side = ["tail", "head"].index(asks)
                query = EncodeCall(entities, relations, np.array([[side, 0]]), np.array([side]), templates=(name, name))
                assert prompt(made, made.encode(query, all_at_once)) == ids(before)
                continue
            triple = ScoreCall(entities, relations, np.array([[0, 0, 1]]), readout, name)
            whole = ids(f"{before} {slots[asks]}")[:-1] if readout == "likelihood" else ids(text.format(**slots))
            lead = compiled.answers[readout].lead.tolist() if readout in compiled.answers else []
            assert prompt(made, made.score(triple, TAIL, all_at_once)) == whole + lead


ROOT, BETWEEN, END = 1 + length("Is this triple true, yes or no?\nhead:"), length("\nrelation:"), length("\nanswer:")


def test_candidates_of_one_query_share_all_before_the_tail() -> None:
    before = ROOT + 2 + BETWEEN + 1 + BETWEEN
    plan = planner().score(score_call([[0, 0, 1], [0, 0, 2], [0, 0, 3], [0, 0, 4]]), TAIL, all_at_once)
    assert usage(plan) == (4, 4 * (before + 2 + END), 3 * before + ROOT)


def test_heads_are_asked_for_with_the_head_last() -> None:
    plan = planner().score(score_call([[0, 0, 4], [1, 0, 4], [2, 0, 4]]), HEAD, all_at_once)
    relation = 1 + length("Is this triple true, yes or no?\nrelation:")
    before = relation + 1 + length("\ntail:") + 2 + length("\nhead:")
    assert usage(plan) == (3, 3 * (before + 2 + END), 2 * before + relation)


def test_equal_prompts_run_once() -> None:
    one = ROOT + 2 + BETWEEN + 1 + BETWEEN + 2 + END
    plan = planner().score(score_call([[0, 1, 2]] * 3), TAIL, all_at_once)
    assert usage(plan) == (3, 3 * one, 2 * one + ROOT)


def test_of_one_layer_only_the_first_words_are_shared() -> None:
    one = ROOT + 2 + BETWEEN + 1 + BETWEEN + 2 + END
    plan = planner(depth=1).score(score_call([[0, 0, 1], [0, 0, 2]]), TAIL, all_at_once)
    assert usage(plan) == (2, 2 * one, 2 * ROOT)


def test_queries_of_both_sides_share_within_their_side() -> None:
    start = 1 + length("relation:")
    again = start + 1 + length("\nhead:")
    plan = planner().encode(encode_call([[0, 0], [1, 0], [0, 0], [0, 0]], [0, 0, 0, 1]), all_at_once)
    assert length("\nhead:") == length("\ntail:")
    assert usage(plan) == (4, 4 * (again + 2), (again + 2) + again + 2 * start)


def test_names_that_are_asked_for_share_the_prompt_before_them() -> None:
    plan = planner().score(said(["yes", "gout", "gouty"]), TAIL, all_at_once)
    before = 1 + length("head: h\nrelation: r\ntail:")
    lengths = [before + length(" " + name) - 1 for name in ("yes", "gout", "gouty")]  # the last token is not put in
    assert usage(plan) == (3, sum(lengths), 2 * before + 1 + length("head:"))


def test_what_is_cut_runs_what_the_pieces_share_again() -> None:
    call = score_call([[0, 0, 1], [0, 0, 2], [0, 0, 3], [0, 0, 4]])
    before = 2 + BETWEEN + 1 + BETWEEN
    plan = planner().score(call, TAIL, lambda longest, depth: before + 2 * (2 + END))
    assert [len(piece.numbers) for _, piece in plan.pieces] == [2, 2]
    assert plan.usage.shared_tokens == 2 * before + 4 * ROOT


def test_the_budget_hears_of_the_longest_prompt_and_of_the_layers_that_run() -> None:
    heard = []

    def budget(longest: int, depth: int) -> int:
        heard.append((longest, depth))
        return 100

    plan = planner().score(score_call([[0, 0, 1]]), TAIL, budget)
    planner().encode(encode_call([[0, 0]], [0], layer=2), budget)
    end = 1 + length("relation:") + 1 + length("\nhead:") + 2
    assert heard == [(ROOT + 2 + BETWEEN + 1 + BETWEEN + 2 + END, 4), (end, 2)]
    assert plan.at_once == 100


@pytest.mark.parametrize(
    ("depth", "layer", "runs"), [(4, "last", 4), (4, "middle", 2), (5, "middle", 2), (1, "middle", 1), (4, 3, 3)]
)
def test_layers_have_names_and_numbers(depth: int, layer: str | int, runs: int) -> None:
    assert planner(depth).encode(encode_call([[0, 0]], [0], layer=layer), all_at_once).depth == runs


@pytest.mark.parametrize("layer", [0, 5])
def test_a_layer_that_the_model_lacks_is_refused(layer: int) -> None:
    with pytest.raises(InvalidRequest, match="layer") as refused:
        planner().encode(encode_call([[0, 0]], [0], layer=layer), all_at_once)
    assert f"{layer} is not among the model's layers, 1 to 4" in refused.value.errors[0].message


def test_limits_of_tokens_name_themselves() -> None:
    one = ROOT + 2 + BETWEEN + 1 + BETWEEN + 2 + END
    for name, limit, count in (("max_prompt_tokens", one, 1), ("max_call_tokens", 3 * one, 3)):
        call, larger = score_call([[0, 0, 1]] * count), LIMITS.model_copy(update={name: limit})
        assert planner(limits=larger).score(call, TAIL, all_at_once)
        with pytest.raises(BodyTooLarge, match=f"{limit} tokens in one .*{name} is {limit - 1} ") as refused:
            planner(limits=LIMITS.model_copy(update={name: limit - 1})).score(call, TAIL, all_at_once)
        assert refused.value.extra == {"limit": limit - 1, "name": name}
    state = 1 + length("relation:") + 1 + length("\nhead:") + 2
    with pytest.raises(BodyTooLarge, match="max_prompt_tokens"):
        planner(limits=LIMITS.model_copy(update={"max_prompt_tokens": state - 1})).encode(
            encode_call([[0, 0]], [0]), all_at_once
        )


def refused(field: str, call: Any, made: Planner | None = None) -> str:
    """The message of a refusal that names the field."""
    made = made or planner()
    with pytest.raises(InvalidRequest) as found:
        made.encode(call, all_at_once) if isinstance(call, EncodeCall) else made.score(call, TAIL, all_at_once)
    [error] = found.value.errors
    assert error.field == field
    return error.message


def test_an_unknown_template_is_refused_with_those_that_there_are() -> None:
    made = planner()
    message = refused("template", score_call([[0, 0, 1]], template="nonsense"), made)
    assert (
        message == "'nonsense' is no template for the readout verdict; there is short, triple, triple_head, own, bare"
    )
    assert "readout number" in refused("template", score_call([[0, 0, 1]], "number", "triple"), made)
    assert "readout likelihood" in refused("template", said(["t"], "own"), made)


def test_a_template_of_the_wrong_side_is_refused_at_its_place() -> None:
    call = encode_call([[0, 0]], [1], templates=("tail", "tail"))
    assert refused("templates.1", call) == "'tail' asks for the tail, not for the head"
    assert "no template for the readout state" in refused(
        "templates.0", encode_call([[0, 0]], [0], templates=("triple", "head"))
    )


def test_a_template_of_a_side_that_nobody_asks_for_need_only_be_there() -> None:
    call = encode_call([[0, 0]], [0], templates=("tail", "tail"))
    assert len(planner().encode(call, all_at_once).groups) == 1
    assert "no template" in refused("templates.1", encode_call([[0, 0]], [0], templates=("tail", "nonsense")))


def test_likelihood_wants_text_without_vectors_where_it_is_asked() -> None:
    wrong = "is asked for by likelihood: it needs text, and no vectors"
    assert refused("entities.2", score_call([[0, 0, 2]], "likelihood")) == wrong
    both = ScoreCall(slots("both", 3, 1), texts("r"), np.array([[0, 0, 2]]), "likelihood")
    assert refused("entities.2", both) == wrong
    spelled = ScoreCall(slots("both", 3, 1).spelled(), texts("r"), np.array([[0, 0, 2]]), "likelihood")
    assert refused("entities.2", spelled) == wrong
    link = ScoreCall(texts("a"), slots("both", 3, 1), np.array([[0, 1, 0]]), "likelihood", "link")
    assert refused("relations.1", link) == wrong


def test_a_blank_name_cannot_be_asked_for_by_likelihood() -> None:
    message = refused("entities.2", said(["t", SlotText(" ", "a description")]))
    assert message == "its text has no tokens; give text that is not blank"


def test_only_those_that_are_asked_for_need_names() -> None:
    entities = slots("vectors", 3, 1)
    filled = Slots(entities.vectors, entities.starts[:2], entities.counts[:2], entities.texts)
    named = Slots(filled.vectors, np.append(filled.starts, 0), np.append(filled.counts, 0), {2: SlotText("t")})
    call = ScoreCall(named, slots("vectors", 1, 2), np.array([[0, 0, 2], [1, 0, 2]]), "likelihood")
    assert planner().score(call, TAIL, all_at_once).usage.prompts == 2


def test_blank_text_is_refused_by_its_row() -> None:
    call = ScoreCall(texts("a", " "), texts("r"), np.array([[0, 0, 1]]))
    assert "not blank" in refused("entities.1", call)


LONG = {"labels": ("perhaps", "never")}


def test_a_shipped_template_loses_a_readout_that_the_tokenizer_cannot_tell(caplog: pytest.LogCaptureFixture) -> None:
    shipped = {name: template.model_copy(update=LONG) for name, template in load().items()}
    with caplog.at_level(logging.WARNING):
        made = planner(templates=shipped)
    assert {name: c.template.readouts for name, c in made.templates.items()} == {
        "head": ["state", "likelihood"],
        "number": ["number"],
        "number_head": ["number"],
        "query": ["state"],
        "query_head": ["state"],
        "short": ["state", "likelihood"],
        "tail": ["state", "likelihood"],
    }
    lost = [record.getMessage() for record in caplog.records]
    assert [message.split("'")[1] for message in lost] == ["short", "triple", "triple_head"]
    assert all("cannot be used for verdict" in message and "'perhaps', 'never'" in message for message in lost)
    assert "there is none" in refused("template", score_call([[0, 0, 1]]), made)


def test_a_template_of_the_users_own_must_be_told_whole() -> None:
    own = OWN["own"].model_copy(update=LONG)
    with pytest.raises(NoSingleTokens, match="'perhaps', 'never'"):
        planner(templates={"own": own})


def test_labels_of_a_template_that_is_not_read_for_a_verdict_do_not_matter() -> None:
    own = Template(text="{head} {relation} {tail}", readouts=["likelihood"], labels=("perhaps", "never"))
    assert planner(templates={"own": own}).templates["own"].template.readouts == ["likelihood"]
