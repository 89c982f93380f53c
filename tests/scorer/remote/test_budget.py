import pytest

from protocol.problems import OverBudget
from services.scorer.model.loading import LoadError
from services.scorer.remote.answers import ReplyUsage
from services.scorer.remote.budget import Budget
from services.scorer.settings import Settings


def budget(cap: float | None, sent: float = 1.0, received: float = 10.0) -> Budget:
    """Prices are of one token."""
    prices = {"openai_input_price": sent * 1e6, "openai_output_price": received * 1e6}
    return Budget(Settings(openai_max_cost=cap, **prices))


def test_the_servers_count_takes_the_place_of_the_worst_cost() -> None:
    money = budget(None)
    with money.reserved("a" * 1000, 5) as bill:
        assert bill.cost > 1050
        bill.settle(ReplyUsage(prompt_tokens=200, completion_tokens=3))
    assert money.spent == pytest.approx(230)


def test_the_worst_cost_stays_where_the_server_does_not_count_or_nobody_waited() -> None:
    money = budget(None)
    with money.reserved("ä" * 100, 0) as bill:
        bill.settle(None)
    assert money.spent > 200  # bytes, of which a character may have several
    with pytest.raises(KeyboardInterrupt), money.reserved("a" * 100, 0):
        raise KeyboardInterrupt
    assert money.spent > 300


def test_a_prompt_that_was_refused_costs_nothing() -> None:
    money = budget(500)
    for _ in range(10):
        with money.reserved("a" * 100, 10) as bill:
            bill.cancel()
    assert money.spent == 0


def test_prompts_under_way_count_against_the_cap_until_they_are_answered() -> None:
    money = budget(500)
    with money.reserved("a" * 300, 0) as bill:
        with pytest.raises(OverBudget, match=r"SCORER_OPENAI_MAX_COST is 500; 0 is spent.*higher cap"):
            money.reserved("a" * 300, 0).__enter__()
        bill.settle(ReplyUsage(prompt_tokens=80))
    with money.reserved("a" * 300, 0):
        pass


def test_a_long_answer_may_be_what_is_too_dear() -> None:
    with pytest.raises(OverBudget):
        budget(500).reserved("a", 60).__enter__()


def test_a_cap_without_a_price_is_refused() -> None:
    with pytest.raises(LoadError, match=r"^SCORER_OPENAI_MAX_COST.*SCORER_OPENAI_INPUT_PRICE.*$"):
        budget(5, 0, 0)
    budget(5, 0, 1)
    budget(None, 0, 0)
