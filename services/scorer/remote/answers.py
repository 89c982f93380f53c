"""What another server's model said, read as numbers: from the log-probabilities that it lists, or from its words.

Whatever cannot be read is NaN with a reason, never a number that nobody said.
"""

import math
import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from pydantic import BaseModel, Field

QUOTED = 40
"""Characters of an answer that a reason may quote."""
_UNLIKELY = -9999.0  # what the API lists in place of log-probabilities that it does not tell
_DIGITS = frozenset("0123456789")
_WITH_DIGIT = re.compile(r"\S*[0-9]\S*")
_RATING = re.compile(r"([0-9](?:\.[0-9]+)?)(?:/9)?")
_AROUND = "*_`'\"“”()[]<>.,:;!"
_LINE = re.compile(r"[\s*_`(\[>-]*([0-9]+)[\]*_`]*(?::|[.)](?=\s))(.*)", re.DOTALL)


class _Listed(BaseModel):
    token: str
    logprob: float | None = None


class _Token(_Listed):
    top_logprobs: list[_Listed] | None = None


class _Logprobs(BaseModel):
    content: list[_Token] | None = None


class _Message(BaseModel):
    content: str | None = None
    refusal: str | None = None


class _Choice(BaseModel):
    message: _Message = _Message()
    logprobs: _Logprobs | None = None
    finish_reason: str | None = None


class _Details(BaseModel):
    cached_tokens: int | None = Field(None, ge=0)


class ReplyUsage(BaseModel):
    """Tokens, as the server counts them."""

    prompt_tokens: int = Field(0, ge=0)
    completion_tokens: int = Field(0, ge=0)
    prompt_tokens_details: _Details | None = None

    @property
    def cached_tokens(self) -> int:
        """Tokens of the prompt that the server did not compute again."""
        return (self.prompt_tokens_details and self.prompt_tokens_details.cached_tokens) or 0


class Reply(BaseModel):
    """A chat completion, as far as it is read here; whatever else stands in it is not looked at."""

    choices: list[_Choice]
    usage: ReplyUsage | None = None

    @classmethod
    def filtered(cls) -> "Reply":
        """What a content filter left of a prompt that never reached the model."""
        return cls(choices=[_Choice(finish_reason="content_filter")], usage=ReplyUsage())

    @property
    def text(self) -> str:
        """The answer in words."""
        return (self.choices[0].message.content or "") if self.choices else ""

    @property
    def cut(self) -> bool:
        """Whether the answer ended because it was long enough."""
        return bool(self.choices) and self.choices[0].finish_reason == "length"

    @property
    def listed(self) -> list[tuple[str, float]]:
        """Tokens that may begin the answer, without spaces and in lower case, and their log-probabilities.

        Some tokenizers cut a space from the digit that follows: tokens of nothing but spaces do not begin it.
        """
        logprobs = self.choices[0].logprobs if self.choices else None
        content = (logprobs and logprobs.content) or []
        begins = next((token for token in content if token.token.strip()), content[0] if content else None)
        return [
            (top.token.strip().lower(), min(top.logprob, 0.0))
            for top in (begins and begins.top_logprobs) or []
            if top.logprob is not None and top.logprob > _UNLIKELY
        ]

    @property
    def refusal(self) -> str | None:
        """Why there is no answer to read, or None where there is one."""
        if not self.choices:
            return "the server's reply holds no answer"
        choice = self.choices[0]
        if choice.message.refusal:
            return f"the model refuses to answer: {_quoted(choice.message.refusal)}"
        if choice.finish_reason == "content_filter":
            return "the server's content filter withholds the answer"
        return None


class Answer(NamedTuple):
    """What was said of one triple; each number is NaN where it is not known.

    Attributes:
        probability: P(first label) given that the answer is one of the two.
        mass: Probability that the answer is one of those looked at.
        reason: Why the score is NaN.
    """

    score: float = math.nan
    probability: float = math.nan
    mass: float = math.nan
    reason: str | None = None


def verdict(reply: Reply, labels: tuple[str, str]) -> Answer:
    """The logarithm of p(first label) / p(second), each summed over the listed tokens that spell it.

    A label that is not listed is less likely than every token that is: it is bounded by the least of them, so that the
    score is nearer to 0 than the model's own. `mass` counts listed labels only.
    """
    listed = reply.listed
    if not listed:
        return Answer(
            reason="the server lists no log-probabilities, which verdict is read from; use the readout number, or a "
            "server and a model that list them"
        )
    told = [np.logaddexp.reduce([log for token, log in listed if token == label.strip().lower()]) for label in labels]
    if max(told) == -math.inf:
        first, second = labels
        return Answer(reason=f"neither {first!r} nor {second!r} is among the likely answers: {_quoted(reply.text)}")
    if len(listed) == 1:
        return Answer(reason="the server lists one token only, which says nothing of the other answer")
    least = min(log for _, log in listed)
    true, false = (log if log > -math.inf else least for log in told)
    score = float(true - false)
    return Answer(score, float(np.exp(-np.logaddexp(0.0, -score))), float(min(np.exp(told).sum(), 1.0)))


def number(reply: Reply) -> Answer:
    """The expected digit, given that the answer begins with one; the number in the text where none is listed."""
    digits = [(int(token), log) for token, log in reply.listed if token in _DIGITS]
    if not digits:
        return _rating(reply.text, reply.cut)
    values, logs = np.array(digits, dtype=np.float64).T
    weights = np.exp(logs - logs.max())
    return Answer(float(values @ weights / weights.sum()), mass=float(min(np.exp(logs).sum(), 1.0)))


def numbers(reply: Reply, count: int) -> list[Answer]:
    """The numbers of so many candidates from lines as `1: 7`, in the candidates' order.

    A line that is missing, doubled or not a number from 0 to 9 costs its own candidate only. Lines of candidates past
    the last are not read; a line 0 shows that the model counts otherwise, and none is.
    """
    said: dict[int, list[Answer]] = {}
    for line in reply.text.splitlines(keepends=True):
        if found := _LINE.match(line):
            said.setdefault(int(found[1]), []).append(_rating(found[2], reply.cut))
    if 0 in said:
        return [Answer(reason=f"the answer counts the candidates from 0: {_quoted(reply.text)}")] * count
    return [_only(said.get(candidate, []), candidate, reply.text) for candidate in range(1, count + 1)]


def _only(said: Sequence[Answer], candidate: int, text: str) -> Answer:
    if len(said) == 1:
        return said[0]
    lines = f"{len(said)} lines" if said else "no line"
    return Answer(reason=f"the answer holds {lines} for candidate {candidate}: {_quoted(text)}")


def _rating(text: str, cut: bool) -> Answer:
    """The only number of a text: `7`, `7.5` or `7/9`, with marks around it.

    Any second word that holds a digit makes it unreadable, as do other scales (`7/10`), ranges and signs; so does a
    number that a cut-off text ends with, which might have gone on.
    """
    words = _WITH_DIGIT.findall(text)
    if len(words) == 1 and (found := _RATING.fullmatch(words[0].strip(_AROUND))) and float(found[1]) <= 9:
        if not (cut and text.endswith(words[0])):
            return Answer(float(found[1]))
        return Answer(reason=f"the answer was cut off at its number: {_quoted(text)}")
    return Answer(reason=f"the answer is not one number from 0 to 9: {_quoted(text)}")


def _quoted(text: str) -> str:
    return repr(" ".join(text.split())[:QUOTED])
