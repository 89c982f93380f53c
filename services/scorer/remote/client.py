"""Scores triples with the model of another server: any that speaks OpenAI's chat completions."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import numpy as np
from openai import APIConnectionError, APIStatusError, AsyncOpenAI
from pydantic import ValidationError

from protocol.messages import Usage
from services.scorer.model.loading import EMBEDDED, RANDOM, LoadError
from services.scorer.remote.access import check_url, key_of, length_field
from services.scorer.remote.answers import Answer, Reply, ReplyUsage
from services.scorer.remote.budget import Budget
from services.scorer.remote.failures import may_have_run, not_the_api, problem_of
from services.scorer.remote.questions import Question, questions
from services.scorer.remote.retries import with_retries
from services.scorer.requests import ScoreCall
from services.scorer.results import Scores
from services.scorer.settings import Settings
from services.scorer.templates import Template

_NO_KEY = "none"
"""What is sent where there is no key: the library wants one, and would else take another program's OPENAI_API_KEY."""
_TOP_LOGPROBS = 20  # the most that OpenAI lists


class Remote:
    """A model behind an OpenAI-compatible API. One event loop uses it."""

    def __init__(self, settings: Settings) -> None:
        """Prepare the client; nothing is sent yet.

        Raises:
            LoadError: A setting is missing, or contradicts another.
        """
        if settings.model in (EMBEDDED, RANDOM):
            raise LoadError("SCORER_BACKEND is openai: set SCORER_MODEL to that server's name for its model")
        check_url(settings.openai_base_url)
        self._settings = settings
        self._key = key_of(settings)
        self._budget = Budget(settings)
        self._free = asyncio.Semaphore(settings.openai_concurrency)
        self._client = AsyncOpenAI(
            base_url=settings.openai_base_url,
            api_key=self._key or _NO_KEY,
            max_retries=0,  # see `with_retries`
            timeout=settings.openai_timeout,
        )

    @property
    def spent(self) -> float:
        """What this process spent, in the currency of the prices."""
        return self._budget.spent

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    async def score(self, call: ScoreCall, template: Template) -> Scores:
        """Score the triples of a call, float64 [t], by readout `verdict` or `number`. Slots hold text only.

        Either all triples come back, or the call fails. Where it fails or is cancelled, nothing more of it is sent,
        and what is under way is given up.

        Raises:
            Busy: The server is over its rate limit, also after retries.
            ModelFailed: It refuses, fails or cannot be reached, or is none of that API.
            OverBudget: The next prompt, or a prompt's next attempt, might take the costs over the cap.
        """
        waiting = questions(call, template, self._settings)
        answers: dict[int, Answer] = {}
        usages: list[ReplyUsage] = []

        async def work() -> None:
            for question in waiting:
                reply = await self._ask(question)
                usages.append(reply.usage or ReplyUsage())
                answers.update(zip(question.places, _read(question, reply), strict=True))

        # A call queues no more prompts than may run at once, so that a small call passes through a large one.
        await _together(work, min(self._settings.openai_concurrency, len(call.triples)))
        return _scores(call, [answers[place] for place in range(len(call.triples))], usages)

    async def _ask(self, question: Question) -> Reply:
        async with self._free:
            try:
                return await with_retries(lambda: self._attempt(question), self._settings.openai_retries)
            except (APIConnectionError, APIStatusError) as error:
                return self._unanswered(error)
            except ValidationError:
                raise not_the_api() from None

    async def _attempt(self, question: Question) -> Reply:
        with self._budget.reserved(question.text, question.answer_tokens) as bill:
            try:
                reply = await self._send(question)
            except (APIConnectionError, APIStatusError) as error:
                if not may_have_run(error):
                    bill.cancel()
                raise
            bill.settle(reply.usage)
            return reply

    async def _send(self, question: Question) -> Reply:
        extra: dict[str, Any] = {length_field(self._settings.openai_base_url): question.answer_tokens}
        if question.logprobs:
            extra |= {"logprobs": True, "top_logprobs": _TOP_LOGPROBS}
        # Raw, since the library builds its objects without looking at what it was sent.
        response = await self._client.chat.completions.with_raw_response.create(
            model=self._settings.model,
            messages=[{"role": "user", "content": question.text}],
            temperature=0,
            extra_body=extra,
        )
        return Reply.model_validate_json(response.content)

    def _unanswered(self, error: APIConnectionError | APIStatusError) -> Reply:
        if isinstance(error, APIStatusError) and error.status_code == 400 and error.code == "content_filter":
            return Reply.filtered()
        raise problem_of(error, self._settings, self._key) from None


async def _together(work: Callable[[], Coroutine[Any, Any, None]], workers: int) -> None:
    """Run so many workers; the first failure ends them all, and is raised."""
    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(workers):
                group.create_task(work())
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None


def _read(question: Question, reply: Reply) -> list[Answer]:
    if reply.refusal is not None:
        return [Answer(reason=reply.refusal)] * len(question.places)
    return question.read(reply)


def _scores(call: ScoreCall, answers: list[Answer], usages: list[ReplyUsage]) -> Scores:
    scores, probabilities, masses = np.array([answer[:3] for answer in answers], dtype=np.float64).T
    return Scores(
        scores,
        Usage(
            prompts=len(answers),
            tokens=sum(usage.prompt_tokens for usage in usages),
            shared_tokens=sum(usage.cached_tokens for usage in usages),
        ),
        probabilities=probabilities if call.readout == "verdict" else None,
        masses=masses,
        reasons={place: answer.reason for place, answer in enumerate(answers) if answer.reason is not None},
    )
