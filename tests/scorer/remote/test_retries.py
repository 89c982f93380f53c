"""What is asked again and when, and what the attempts count against the cost cap."""

import math
import socket
from typing import Any

import pytest

from protocol.problems import ModelFailed, OverBudget, ProblemError
from services.scorer.remote.budget import Budget
from services.scorer.remote.client import Remote
from services.scorer.remote.questions import questions

from .openai_server import CLOSED, OpenAI, Sent, fault, said, serve
from .remotes import TEMPLATES, call, score, server, settings, use, waits

__all__ = ["server", "waits"]

PRICES = {"openai_input_price": 1e6, "openai_output_price": 4e6}
SLOW = said("yes", waits=True)
ANSWER = said("yes", {"yes": 0.75, "no": 0.25}, usage={"prompt_tokens": 30, "completion_tokens": 1})


def worst(server: OpenAI) -> float:
    """What a budget holds for the one prompt of `call(1)`."""
    [question] = questions(call(1), TEMPLATES["triple"], settings(server))
    with Budget(settings(server, **PRICES)).reserved(question.text, question.answer_tokens) as bill:
        return bill.cost


def spent(server: OpenAI, problem: type[ProblemError] | None = None, **given: Any) -> float:
    """What one prompt costs that is answered, or fails with such a problem."""

    async def action(remote: Remote) -> float:
        if problem is None:
            await remote.score(call(1), TEMPLATES["triple"])
        else:
            with pytest.raises(problem):
                await remote.score(call(1), TEMPLATES["triple"])
        return remote.spent

    return use(server, action, **(PRICES | given))


def test_what_may_pass_is_asked_again_after_what_the_server_says(server: OpenAI, waits: list[float]) -> None:
    server.faults = [fault(429, Retry_After="7"), fault(503, Retry_After="110"), fault(500, Retry_After="0"), CLOSED]
    assert score(server).scores == pytest.approx([math.log(3)])
    assert waits[:2] == [7, 110]
    # Where the server says nothing, the waits double from half a second, with up to a quarter of jitter.
    assert 1.5 <= waits[2] <= 2
    assert 3 <= waits[3] <= 4
    assert len(server.asked) == 5


def test_a_server_may_say_itself_whether_to_ask_again(server: OpenAI, waits: list[float]) -> None:
    server.faults = [fault(400, x_should_retry="true"), fault(429, x_should_retry="false")]
    with pytest.raises(ProblemError):
        score(server)
    assert len(server.asked) == 2


def test_attempts_that_timed_out_count_beside_the_one_that_was_answered(server: OpenAI, waits: list[float]) -> None:
    server.faults = [SLOW, SLOW]
    server.answer = lambda prompt: ANSWER
    assert spent(server, openai_timeout=1) == pytest.approx(2 * worst(server) + 34)
    assert len(server.asked) == 3


def test_an_attempt_that_would_pass_the_cap_is_refused(server: OpenAI, waits: list[float]) -> None:
    server.answer = lambda prompt: SLOW
    cap = 2.5 * worst(server)
    assert spent(server, OverBudget, openai_timeout=0.2, openai_max_cost=cap) == pytest.approx(2 * worst(server))
    assert len(server.asked) == 2


@pytest.mark.parametrize(
    ("faults", "counted"),
    [
        ([CLOSED, CLOSED, fault(401)], 2),
        ([fault(408), fault(502), fault(504), fault(404)], 3),
        ([fault(409), fault(429), fault(500), fault(503), fault(400)], 0),
        ([fault(429), Sent(b"{no json")], 1),
    ],
)
def test_an_attempt_counts_unless_the_server_refused_it(
    server: OpenAI, waits: list[float], faults: list[Sent], counted: int
) -> None:
    server.faults = list(faults)
    assert spent(server, ModelFailed) == pytest.approx(counted * worst(server))
    assert len(server.asked) == len(faults)


def test_a_prompt_that_could_not_be_sent_costs_nothing(waits: list[float]) -> None:
    with serve() as gone:
        pass
    assert spent(gone, ModelFailed) == 0
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        # Whoever comes after those who wait already is not let in.
        address = full.getsockname()
        queue = [socket.socket() for _ in range(4)]
        for waiting in queue:
            waiting.setblocking(False)
            waiting.connect_ex(address)
        base = f"http://127.0.0.1:{address[1]}/v1"
        assert spent(gone, ModelFailed, openai_base_url=base, openai_timeout=0.2, openai_retries=0) == 0
        for waiting in queue:
            waiting.close()
