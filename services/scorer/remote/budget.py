"""What the prompts to another server cost, and the cap on it.

Costs are in the currency of the prices. A cap that a process cannot pass has to count what is still unknown at its
worst: a prompt before it is answered, and one whose answer was given up. Each attempt at a prompt has a bill of its
own, since a server may run, and bill, several of them.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from protocol.problems import OverBudget
from services.scorer.model.loading import LoadError
from services.scorer.remote.answers import ReplyUsage
from services.scorer.settings import Settings

_FRAME_TOKENS = 64
"""What servers put around a prompt: the marks of a chat, a default system prompt."""


class Bill:
    """What one attempt at a prompt costs: the worst, until more is known."""

    def __init__(self, worst: float, input_price: float, output_price: float) -> None:
        self.cost = worst
        self._prices = input_price, output_price

    def settle(self, usage: ReplyUsage | None) -> None:
        """The cost by the server's own count; the worst stays where it does not count."""
        if usage is not None:
            self.cost = usage.prompt_tokens * self._prices[0] + usage.completion_tokens * self._prices[1]

    def cancel(self) -> None:
        """The server did not run the prompt."""
        self.cost = 0.0


class Budget:
    """Attributes: `spent`, by all attempts whose end is known."""

    def __init__(self, settings: Settings) -> None:
        """Read prices and cap.

        Raises:
            LoadError: There is a cap but no price, so that it would never hold.
        """
        self.spent = 0.0
        self._reserved = 0.0
        self._cap = settings.openai_max_cost
        self._prices = settings.openai_input_price / 1e6, settings.openai_output_price / 1e6
        if self._cap is not None and not any(self._prices):
            raise LoadError(
                "SCORER_OPENAI_MAX_COST is set, but no price: nothing would ever cost anything; set "
                "SCORER_OPENAI_INPUT_PRICE and SCORER_OPENAI_OUTPUT_PRICE, or leave the cap out"
            )

    @contextmanager
    def reserved(self, prompt: str, answer_tokens: int) -> Iterator[Bill]:
        """Hold the worst cost of an attempt while it is under way, and spend what its bill says in the end.

        Raises:
            OverBudget: It might take the costs over the cap.
        """
        # No tokenizer makes more tokens of a text than it has bytes.
        tokens = len(prompt.encode()) + _FRAME_TOKENS
        worst = tokens * self._prices[0] + answer_tokens * self._prices[1]
        if self._cap is not None and self.spent + self._reserved + worst > self._cap:
            raise OverBudget(
                f"the cost cap SCORER_OPENAI_MAX_COST is {self._cap:g}; {self.spent:.6g} is spent, prompts under way "
                f"may cost {self._reserved:.6g} and the next {worst:.6g}; restart the scorer with a higher cap to go on"
            )
        bill = Bill(worst, *self._prices)
        self._reserved += worst
        try:
            yield bill
        finally:
            self._reserved -= worst
            self.spent += bill.cost
