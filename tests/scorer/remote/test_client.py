import asyncio
import math
from typing import Any

import numpy as np
import pytest

from protocol.problems import ModelFailed, OverBudget
from services.scorer.model.loading import LoadError
from services.scorer.remote.client import Remote
from services.scorer.results import Scores

from .openai_server import OpenAI, Sent, completion, fault, said
from .remotes import TEMPLATES, call, score, server, settings, tail, use

__all__ = ["server"]

KEY = "sk-0123456789-do-not-tell"


def test_verdicts_come_back_in_the_order_of_the_call(server: OpenAI) -> None:
    usage = {"prompt_tokens": 30, "completion_tokens": 1, "prompt_tokens_details": {"cached_tokens": 20}}

    def answer(prompt: str) -> Sent:
        p = tail(prompt) / 10
        return said("yes", {"Yes": p, " no": (1 - p) / 2, "maybe": (1 - p) / 2}, usage=usage)

    server.answer = answer
    found = score(server, 9)
    p = np.arange(1, 10) / 10
    assert found.scores == pytest.approx(np.log(p / ((1 - p) / 2)))
    assert found.probabilities == pytest.approx(p / (p + (1 - p) / 2))
    assert found.masses == pytest.approx(p + (1 - p) / 2)
    assert found.reasons == {}
    assert found.usage.model_dump() == {"prompts": 9, "tokens": 270, "shared_tokens": 180}


def test_a_verdict_asks_for_one_token_and_the_likely_others(server: OpenAI) -> None:
    score(server)
    [body] = server.asked
    assert body.pop("messages")[0]["content"].startswith("Is this triple true, yes or no?\nhead: e0\n")
    assert body == {"model": "m", "temperature": 0, "max_tokens": 1, "logprobs": True, "top_logprobs": 20}


def test_numbers_are_expected_digits_where_the_server_lists_them_and_words_where_not(server: OpenAI) -> None:
    answers = {1: said("8", {"8": 0.6, "3": 0.2}), 2: said("6.5"), 3: said("It is hard to say")}
    server.answer = lambda prompt: answers[tail(prompt)]
    found = score(server, 3, "number")
    assert found.scores == pytest.approx([6.75, 6.5, math.nan], nan_ok=True)
    assert found.masses == pytest.approx([0.8, math.nan, math.nan], nan_ok=True)
    assert found.probabilities is None
    assert found.reasons == {2: "the answer is not one number from 0 to 9: 'It is hard to say'"}
    assert found.usage.tokens == 0


def test_listed_candidates_are_scored_in_one_prompt_in_the_order_of_the_call(server: OpenAI) -> None:
    def answer(prompt: str) -> Sent:
        names = [line for line in prompt.splitlines() if ": e" in line and line[0].isdigit()]
        return said("\n".join(f"{line.split(':')[0]}: {int(line.split('e')[1]) - 1}" for line in reversed(names)))

    server.answer = answer
    found = score(server, 10, "number", openai_candidates=4)
    assert found.scores.tolist() == list(range(10))
    assert np.isnan(found.masses).all()
    assert len(server.asked) == 3
    assert found.usage.prompts == 10
    assert "logprobs" not in server.asked[0]


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        (said(None, refusal="I cannot rate drugs."), "refuses to answer: 'I cannot rate drugs.'"),
        (said("", finish="content_filter"), "content filter"),
        (fault(400, "bad words", "content_filter"), "content filter"),
        (Sent(completion([])), "no answer"),
        (said("yes"), "no log-probabilities"),
    ],
)
def test_one_prompt_without_an_answer_is_nan_with_its_reason(server: OpenAI, sent: Sent, reason: str) -> None:
    server.answer = lambda prompt: sent if tail(prompt) == 2 else said("yes", {"yes": 0.75, "no": 0.25})
    found = score(server, 3)
    assert found.scores == pytest.approx([math.log(3), math.nan, math.log(3)], nan_ok=True)
    assert list(found.reasons) == [1]
    assert reason in found.reasons[1]


def test_a_list_that_is_refused_costs_all_its_candidates(server: OpenAI) -> None:
    server.answer = lambda prompt: said(None, refusal="no")
    found = score(server, 3, "number", openai_candidates=5)
    assert sorted(found.reasons) == [0, 1, 2]


def test_a_slow_answer_is_given_up_and_counted_at_its_worst(server: OpenAI) -> None:
    server.answer = lambda prompt: said("yes", waits=True)

    async def action(remote: Remote) -> float:
        with pytest.raises(ModelFailed, match=r"within 0.2 s.*SCORER_OPENAI_TIMEOUT"):
            await remote.score(call(1), TEMPLATES["triple"])
        return remote.spent

    assert use(server, action, openai_timeout=0.2, openai_retries=0, openai_input_price=1.0) > 0


def test_no_more_prompts_run_at_once_than_set_over_all_calls(server: OpenAI) -> None:
    server.answer = lambda prompt: said("yes", {"yes": 0.75, "no": 0.25}, waits=True)

    async def action(remote: Remote) -> list[Scores]:
        calls = [asyncio.create_task(remote.score(call(6), TEMPLATES["triple"])) for _ in range(3)]
        for _ in range(4):
            await asyncio.to_thread(server.arrived.acquire)
        server.opened.set()
        return await asyncio.gather(*calls)

    found = use(server, action, openai_concurrency=4)
    assert [len(scores.scores) for scores in found] == [6, 6, 6]
    assert server.most == 4


def test_a_small_call_does_not_wait_for_the_whole_of_a_large_one(server: OpenAI) -> None:
    ended: list[str] = []

    async def timed(remote: Remote, name: str, candidates: int) -> None:
        await remote.score(call(candidates), TEMPLATES["triple"])
        ended.append(name)

    async def action(remote: Remote) -> None:
        await asyncio.gather(timed(remote, "large", 60), timed(remote, "small", 1))

    use(server, action, openai_concurrency=2)
    assert ended == ["small", "large"]


def test_prompts_of_a_caller_that_went_away_are_not_sent_and_those_that_run_are_given_up(server: OpenAI) -> None:
    server.answer = lambda prompt: said("yes", waits=True)

    async def action(remote: Remote) -> float:
        running = asyncio.create_task(remote.score(call(50), TEMPLATES["triple"]))
        for _ in range(2):
            await asyncio.to_thread(server.arrived.acquire)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        for _ in range(2):
            await asyncio.to_thread(server.hung_up.acquire)
        server.answer = lambda prompt: said("yes", {"yes": 0.75, "no": 0.25})
        await remote.score(call(1), TEMPLATES["triple"])  # the places are free again
        return remote.spent

    assert use(server, action, openai_concurrency=2, openai_input_price=1.0) > 0
    assert len(server.asked) == 3


def test_a_failed_call_sends_nothing_more(server: OpenAI) -> None:
    server.answer = lambda prompt: fault(401)
    with pytest.raises(ModelFailed):
        score(server, 50, openai_concurrency=2)
    assert len(server.asked) <= 2


def test_the_cap_stops_a_call_before_it_is_passed(server: OpenAI) -> None:
    usage = {"prompt_tokens": 100, "completion_tokens": 1}
    server.answer = lambda prompt: said("yes", {"yes": 0.75, "no": 0.25}, usage=usage)

    async def action(remote: Remote) -> float:
        with pytest.raises(OverBudget, match=r"SCORER_OPENAI_MAX_COST is 500; 416 is spent"):
            await remote.score(call(50), TEMPLATES["triple"])
        with pytest.raises(OverBudget):
            await remote.score(call(1), TEMPLATES["triple"])
        return remote.spent

    prices = {"openai_input_price": 1e6, "openai_output_price": 4e6, "openai_max_cost": 500}
    assert use(server, action, openai_concurrency=1, **prices) == pytest.approx(416)
    assert len(server.asked) == 4


def test_a_server_that_refuses_costs_nothing(server: OpenAI) -> None:
    server.answer = lambda prompt: fault(404)

    async def action(remote: Remote) -> float:
        with pytest.raises(ModelFailed):
            await remote.score(call(1), TEMPLATES["triple"])
        return remote.spent

    assert use(server, action, openai_input_price=1.0) == 0


def test_without_a_key_no_other_programs_key_is_sent(server: OpenAI, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("OPENAI_ADMIN_KEY", KEY)
    score(server)
    assert KEY not in str(server.headers)


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"model": "embedded"}, "set SCORER_MODEL"),
        ({"openai_base_url": "here"}, "SCORER_OPENAI_BASE_URL is no"),
        ({"openai_base_url": "http://example.com/v1", "openai_api_key": KEY}, "in clear"),
        ({"openai_max_cost": 1.0}, "no price"),
    ],
)
def test_a_setting_that_is_missing_or_wrong_is_said_before_anything_is_sent(
    server: OpenAI, given: dict[str, Any], reason: str
) -> None:
    with pytest.raises(LoadError, match=reason) as refusal:
        Remote(settings(server, **given))
    assert "\n" not in str(refusal.value)
    assert KEY not in str(refusal.value)
