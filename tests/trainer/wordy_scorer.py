"""A scorer that is a function of the words that it is told, behind the routes that a judge calls."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from protocol.info import Info, Limits, TemplateInfo
from protocol.messages import Usage
from protocol.scoring import ScoreReply, ScoreRequest
from trainer.clients.service import Service
from trainer.local import unheard

from .support import Loopback, Reply, loopback

LIMITS = Limits(**(dict.fromkeys(Limits.model_fields, 1 << 20) | {"max_prompt_tokens": 64}))
READOUTS = {"triple": "verdict", "triple_head": "verdict", "tail": "likelihood", "head": "likelihood"}


def score_of(*words: str | None) -> float:
    """A number from 0 to 10 in steps of 0.01, by the words and their order."""
    return int.from_bytes(hashlib.sha256(repr(words).encode()).digest()[:4], "little") % 1001 / 100


@dataclass
class WordyScorer:
    """The state.

    Attributes:
        unread: Names of entities whose triples get no score.
        asked: The requests for scores, in their order.
        server: Where it is.
        service: What calls it.
    """

    revision: str = "r1"
    limits: Limits = field(default_factory=lambda: LIMITS)
    unread: tuple[str, ...] = ()
    asked: list[ScoreRequest] = field(default_factory=list)
    server: Loopback = field(init=False)
    service: Service = field(init=False)

    @property
    def info(self) -> Info:
        """What it says of itself."""
        templates = {
            name: TemplateInfo.model_validate(
                {"text": name, "hash": f"hash of {name}", "asks": "tail", "readouts": [readout], "labels": ["a", "b"]}
            )
            for name, readout in READOUTS.items()
        }
        return Info(
            backend="llama", model="wordy", revision=self.revision, architecture="a", dtype="float32", device="cpu",
            quantization=None, hidden=4, layers=1, vocabulary=9, readouts=["verdict", "likelihood"],
            templates=templates, query_hash="q", description_tokens=64, batch_tokens=64, merge=True, keep_seconds=1.0,
            limits=self.limits,
        )  # fmt: skip

    def respond(self, path: str, body: bytes) -> Reply:
        """The answer to a call."""
        if path == "/info":
            return 200, self.info.model_dump_json().encode()
        assert path == "/score"
        request = ScoreRequest.model_validate_json(body)
        self.asked.append(request)
        assert request.template is not None
        assert READOUTS[request.template] == request.readout
        scores = [self._score(request, triple) for triple in request.triples]
        usage = Usage(prompts=len(scores), tokens=10 * len(scores), shared_tokens=4 * len(scores))
        reply = ScoreReply(
            model="wordy", revision=self.revision, template=request.template, readout=request.readout,
            template_hash=f"hash of {request.template}", usage=usage, scores=scores,
        )  # fmt: skip
        return 200, reply.model_dump_json().encode()

    def _score(self, request: ScoreRequest, triple: object) -> float | None:
        assert isinstance(triple, tuple)
        slots = request.entities[triple[0]], request.relations[triple[1]], request.entities[triple[2]]
        if {slot.name for slot in slots} & set(self.unread):
            return None
        return score_of(request.template, *(word for slot in slots for word in (slot.name, slot.description)))


@contextmanager
def wordy_scorer(**state: object) -> Iterator[WordyScorer]:
    """A scorer that is served."""
    made = WordyScorer(**state)  # type: ignore[arg-type]
    with loopback(made.respond) as made.server, Service("scorer", made.server.url, None, unheard) as made.service:
        yield made
