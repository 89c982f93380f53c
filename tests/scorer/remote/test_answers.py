import json
import math

import numpy as np
import pytest

from services.scorer.remote.answers import Answer, Reply, number, numbers, verdict

LABELS = ("yes", "no")


def reply(text: str | None = None, *tokens: dict[str, float], finish: str = "stop") -> Reply:
    """A reply whose tokens list these log-probabilities."""
    content = [
        {"token": next(iter(tops)), "top_logprobs": [{"token": t, "logprob": log} for t, log in tops.items()]}
        for tops in tokens
    ]
    logprobs = {"content": content} if tokens else None
    choice = {"message": {"content": text}, "logprobs": logprobs, "finish_reason": finish}
    return Reply.model_validate_json(json.dumps({"choices": [choice]}))


def log(**probabilities: float) -> dict[str, float]:
    return {token: math.log(p) for token, p in probabilities.items()}


def unreadable(answer: Answer) -> bool:
    return math.isnan(answer.score) and math.isnan(answer.mass) and bool(answer.reason)


def test_a_verdict_sums_all_spellings_of_its_labels() -> None:
    found = verdict(reply("Yes", log(Yes=0.5, **{" yes": 0.1, "NO": 0.2, "maybe": 0.15, "yesterday": 0.05})), LABELS)
    assert found.score == pytest.approx(math.log(0.6 / 0.2))
    assert found.probability == pytest.approx(0.75)
    assert found.mass == pytest.approx(0.8)
    assert found.reason is None


def test_a_label_that_is_not_listed_is_bounded_by_the_least_likely_token() -> None:
    likely = log(no=0.9, perhaps=0.06, never=0.01)
    found = verdict(reply("no", likely), LABELS)
    assert found.score == pytest.approx(math.log(0.01 / 0.9))
    assert found.mass == pytest.approx(0.9)
    mirrored = verdict(reply("no", likely), ("no", "yes"))
    assert mirrored.score == pytest.approx(-found.score)


def test_log_probabilities_that_no_float_can_exponentiate_still_give_a_verdict() -> None:
    found = verdict(reply("yes", {"yes": 0.0, "no": -2000.0}), LABELS)
    assert found.score == pytest.approx(2000)
    assert (found.probability, found.mass) == (1.0, 1.0)


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (reply("yes"), "no log-probabilities"),
        (reply("yes", {"yes": -0.1, "no": -9999.0}), "one token only"),
        (reply("sure", log(sure=0.9, never=0.1)), "neither 'yes' nor 'no' is among the likely answers: 'sure'"),
        (Reply.model_validate_json('{"choices": [{"logprobs": {"content": [{"token": "yes"}]}}]}'), "no log-prob"),
    ],
)
def test_a_verdict_that_cannot_be_read_says_why(said: Reply, reason: str) -> None:
    found = verdict(said, LABELS)
    assert unreadable(found)
    assert reason in str(found.reason)


def test_a_number_is_the_expected_digit() -> None:
    found = number(reply("8", log(**{"8": 0.4, " 2": 0.1, "10": 0.2, "high": 0.3})))
    assert found.score == pytest.approx((8 * 0.4 + 2 * 0.1) / 0.5)
    assert found.mass == pytest.approx(0.5)


def test_a_token_of_spaces_does_not_begin_the_answer() -> None:
    found = number(reply(" 7", log(**{" ": 0.9, "3": 0.1}), log(**{"7": 0.75, "5": 0.25})))
    assert found.score == pytest.approx(6.5)
    assert found.mass == pytest.approx(1)


def test_digits_of_no_weight_do_not_divide_by_zero() -> None:
    found = number(reply("x", {"x": 0.0, "4": -3000.0}))
    assert (found.score, found.mass) == (4.0, 0.0)


@pytest.mark.parametrize(
    ("text", "value"),
    [("7", 7), ("7.5", 7.5), (" 7/9\n", 7), ("**7**", 7), ("Rating: 7.", 7), ("9", 9), ("0", 0), ("I say (3)!", 3)],
)
def test_a_number_is_read_from_words_where_no_digit_is_listed(text: str, value: float) -> None:
    for said in (reply(text), reply(text, log(certainly=0.9, perhaps=0.1))):
        found = number(said)
        assert found.score == value
        assert math.isnan(found.mass)
        assert found.reason is None


@pytest.mark.parametrize(
    "text",
    # The last two: a minus sign and a digit of other scripts.
    ["", "seven", "10", "9.5", "-3", "7/10", "7 / 10", "7/9.5", "from 0 to 9", "0-9", "7 or 8", "7%", "7,5", "1e3",
     "07", "p53: 7", "NaN", None, "\u22123", "\u0661"],
)  # fmt: skip
def test_what_is_not_one_number_from_0_to_9_is_nan_with_the_answer_quoted(text: str | None) -> None:
    found = number(reply(text))
    assert unreadable(found)
    assert (text or "") in str(found.reason)


def test_a_reason_quotes_forty_characters_at_most() -> None:
    assert str(number(reply("a" * 500)).reason).count("a" * 40) == 1
    assert "a" * 41 not in str(number(reply("a" * 500)).reason)


def test_a_number_that_the_limit_may_have_cut_is_not_believed() -> None:
    assert unreadable(number(reply("I rate it 1", finish="length")))
    assert number(reply("7\n\nThis triple", finish="length")).score == 7


@pytest.mark.parametrize(
    "text",
    [
        "1: 7\n2: 0.5\n3: 9/9",
        "Sure!\n\n1. 7\n2. 0.5\n3. 9",
        "1) 7\r\n2) 0.5\r\n3) 9\r\n",
        "**1:** 7\n**2**: 0.5\n- 3: 9",
        "3: 9\n1: aspirin - 7\n2: 0.5\n4: 8",
    ],
)
def test_lines_give_each_candidate_its_number(text: str) -> None:
    assert [answer.score for answer in numbers(reply(text), 3)] == [7, 0.5, 9]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("1: 7\n3: 9", "no line for candidate 2"),
        ("1: 7\n2: 4\n2: 4\n3: 9", "2 lines for candidate 2"),
        ("1: 7\n2: 12\n3: 9", "'12'"),
        ("1: 7\n2: unlikely\n3: 9", "'unlikely'"),
        ("1: 7\n2.5\n3: 9", "no line for candidate 2"),
    ],
)
def test_a_bad_line_costs_its_own_candidate_only(text: str, reason: str) -> None:
    found = numbers(reply(text), 3)
    assert [answer.score for answer in found] == pytest.approx([7, math.nan, 9], nan_ok=True)
    assert reason in str(found[1].reason)
    assert found[0].reason is found[2].reason is None


def test_candidates_counted_from_0_are_not_taken_for_their_neighbours() -> None:
    found = numbers(reply("0: 7\n1: 4\n2: 9"), 3)
    assert all(map(unreadable, found))
    assert "from 0" in str(found[0].reason)


def test_the_line_that_the_limit_cut_costs_the_last_candidate() -> None:
    assert [np.isnan(a.score) for a in numbers(reply("1: 7\n2: 1", finish="length"), 2)] == [False, True]
    assert [a.score for a in numbers(reply("1: 7\n2: 1\n", finish="length"), 2)] == [7, 1]
