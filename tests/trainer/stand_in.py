"""A coordinator for one client, without a database: it checks signatures, keeps versions, and closes rounds at once."""

import hashlib
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from protocol.members import JoinReply, JoinRequest
from protocol.problems import Conflict, Forbidden, NotFound, ProblemError, Unauthorized
from protocol.rounds import Evaluation, EvaluationReceipt, Rounds, RoundView, TrainingSummary, UpdateReceipt
from protocol.signatures import content_digest, public_bytes, read_signature, thumbprint, verify
from protocol.tensors import decode, encode
from protocol.trainings import WIRE_DTYPES, TrainingSettings, model_tensors, update_tensors

from .support import DROP, Loopback, Reply, loopback

INVITATION = "the invitation of these tests"
TRAINING = "t1"


@dataclass
class StandIn:
    """The state.

    Attributes:
        settings: Of the training; None before there is one.
        members: Key id and what it joined with.
        joins: How often somebody joined.
        versions: Shared tensors by version.
        updates: SHA-256 of what was accepted, by round.
        first: Number of the training's first round, which is the coordinator's next one.
        ends_after: So many rounds, where these are not all.
        alone, stopped: As the coordinator says them.
        refused: Rounds whose update is refused, once, as theirs closed meanwhile.
        undrawn: Rounds after an evaluation that this client has no part in.
        before: Called with what is about to be answered; may return a reply in its place.
        after: Called likewise when it is done and not answered.
    """

    settings: TrainingSettings | None
    members: dict[str, JoinRequest] = field(default_factory=dict)
    joins: int = 0
    round: int = 1
    first: int = 1
    ends_after: int | None = None
    alone: bool = False
    phase: str = "training"
    event: int = 1
    paused: str | None = None
    stopped: bool = False
    best: int | None = None
    versions: dict[int, dict[str, np.ndarray]] = field(default_factory=dict)
    updates: dict[int, str] = field(default_factory=dict)
    received: dict[int, tuple[dict[str, np.ndarray], dict[str, Any]]] = field(default_factory=dict)
    evaluations: dict[tuple[int, str, str], Evaluation] = field(default_factory=dict)
    refused: set[int] = field(default_factory=set)
    undrawn: set[int] = field(default_factory=set)
    before: Callable[[str], Reply | None] = lambda asked: None
    after: Callable[[str], Reply | None] = lambda asked: None
    server: Loopback = field(init=False)

    def respond(self, path: str, body: bytes) -> Reply:
        method, _, headers, _ = self.server.seen[-1]
        asked = f"{method} {path.split('?')[0]}"
        if (instead := self.before(asked)) is not None:
            return instead
        try:
            reply = self._answer(asked, body, {name.lower(): value for name, value in headers.items()}, path)
        except ProblemError as problem:
            return problem.status, problem.document().model_dump_json(exclude_defaults=True).encode()
        return self.after(asked) or reply

    def _answer(self, asked: str, body: bytes, headers: dict[str, str], path: str) -> Reply:
        if asked == "POST /clients":
            return self._join(JoinRequest.model_validate_json(body), headers, path)
        client = self._client(asked.split()[0], path, headers, body)
        if match := re.fullmatch(r"GET /round/(\d+)/embeddings", asked):
            return self._embeddings(int(match[1]))
        if match := re.fullmatch(r"PUT /round/(\d+)/update", asked):
            return self._update(int(match[1]), client, body)
        if match := re.fullmatch(r"PUT /round/(\d+)/evaluation", asked):
            return self._evaluate(int(match[1]), client, Evaluation.model_validate_json(body))
        return 200, {"GET /round": self._view, "GET /rounds": self._rounds}[asked]().model_dump_json().encode()

    def _client(self, method: str, path: str, headers: dict[str, str], body: bytes) -> str:
        signed = read_signature(headers)
        if signed.key_id not in self.members:
            raise Unauthorized("nobody is known by this key", key=signed.key_id)
        verify(method, f"http://coordinator{path}", headers, public_bytes(self.members[signed.key_id].public_key))
        assert headers["content-digest"] == content_digest(body)
        return signed.key_id

    def _join(self, request: JoinRequest, headers: dict[str, str], path: str) -> Reply:
        public = public_bytes(request.public_key)
        verify("POST", f"http://coordinator{path}", headers, public)
        if headers.get("authorization") != f"Bearer {INVITATION}":
            raise Forbidden("joining needs the invitation token", key=thumbprint(public))
        self.members[thumbprint(public)] = request
        self.joins += 1
        return 201, JoinReply(client=thumbprint(public)).model_dump_json().encode()

    def _view(self) -> RoundView:
        answered = self.phase == "training" and self.round in self.updates
        acting = self.phase in ("training", "evaluating") and self.paused is None
        return RoundView.model_validate(
            {
                "event": self.event,
                "training": self.settings and TRAINING,
                "phase": "idle" if self.settings is None else "paused" if self.paused else self.phase,
                "round": self.round if self.settings else None,
                "selected": acting and self.settings is not None,
                "answered": answered,
                "paused": self.paused,
                "rounds_done": self.round - self.first,
                "alone": self.alone,
                "best_version": self.best,
                "clients": len(self.members),
                "settings": self.settings,
            }
        )

    def _rounds(self) -> Rounds:
        assert self.settings is not None
        summary = {"training": TRAINING, "phase": "finished", "started": "2025-01-01T00:00:00Z", "finished": None}
        summary |= {"rounds_done": self.round - self.first, "best_version": self.best, "best_mrr": None}
        summary |= {"paused": None, "stopped": self.stopped}
        return Rounds(trainings=[TrainingSummary.model_validate(summary | {"settings": self.settings})], rounds=[])

    def _sizes(self) -> tuple[int, int]:
        (member,) = self.members.values()
        return len(member.entities), len(member.relations)

    def _embeddings(self, version: int) -> Reply:
        assert self.settings is not None
        if version not in self.versions and version != self.first:
            raise NotFound(f"version {version} is not kept")
        if version not in self.versions:
            generator = np.random.default_rng(0)
            specs = model_tensors(self.settings, *self._sizes())
            rows = {n: (0.1 * generator.standard_normal(s.shape)).astype(np.float32) for n, s in specs.items()}
            self.versions[version] = rows
        return 200, encode(self.versions[version], {}, WIRE_DTYPES[self.settings.wire_dtype])

    def _update(self, number: int, client: str, body: bytes) -> Reply:
        assert self.settings is not None
        digest = hashlib.sha256(body).hexdigest()
        if self.updates.get(number, digest) != digest:
            raise Conflict("another update stands")
        if number not in self.updates:
            if number in self.refused:
                self.refused.discard(number)
                self._closed_by_others()
            if (number, self.phase) != (self.round, "training"):
                raise Conflict(f"round {number} takes no update")
            self.received[number] = decode(body, update_tensors(self.settings, *self._sizes()))
            self.updates[number] = digest
            self._next({n: a for n, a in self.received[number][0].items() if n != "frequencies"})
        receipt = UpdateReceipt(training=TRAINING, round=number, client=client, digest=digest)
        return 201, receipt.model_dump_json().encode()

    def _closed_by_others(self) -> None:
        self._next({name: array * np.float32(0.9) for name, array in self.versions[self.round].items()})

    def _next(self, version: dict[str, np.ndarray]) -> None:
        assert self.settings is not None
        self.event += 1
        self.versions[self.round + 1] = version
        done = self.round - self.first + 1
        due = done % self.settings.evaluate_every == 0 or done >= self.settings.rounds
        self.round, self.phase = self.round + 1, "evaluating" if due else "training"

    def _evaluate(self, number: int, client: str, evaluation: Evaluation) -> Reply:
        assert self.settings is not None
        key = (number, evaluation.mode, evaluation.split)
        if self.evaluations.setdefault(key, evaluation) != evaluation:
            raise Conflict("other metrics stand")
        if (number, self.phase, evaluation.split) == (self.round, "evaluating", "valid"):
            self.event += 1
            self.best = number
            self.phase = "finished" if number - self.first >= (self.ends_after or self.settings.rounds) else "training"
            if number in self.undrawn:
                self._closed_by_others()
        receipt = EvaluationReceipt(
            training=TRAINING, round=number, client=client, mode=evaluation.mode, split=evaluation.split
        )
        return 201, receipt.model_dump_json().encode()


@contextmanager
def coordinator(settings: TrainingSettings | None = None, **state: Any) -> Iterator[StandIn]:
    """A stand-in that is served; its address is that of its `server`."""
    made = StandIn(settings, **state)
    with loopback(made.respond) as made.server:
        yield made


def once(asked: str, reply: Reply = DROP) -> Callable[[str], Reply | None]:
    """A fault for `before` or `after`: the first time that this is asked, this is answered."""
    left = [reply]
    return lambda seen: left.pop() if seen == asked and left else None
