"""The scorer as the trainer sees it: the frozen LLaMA's states and their gradients, over HTTP.

What the scorer sees of a client: the vectors sent, and which of them stand together in a query. Names go along only
where the client switched them on.
"""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from protocol import tensors
from protocol.encoding import ENCODE_GRADIENT_REPLY_TENSORS, ENCODE_REPLY_TENSORS
from protocol.info import Info
from protocol.problems import BodyTooLarge, InvalidRequest, NotFound
from protocol.trainings import ScorerIdentity
from trainer.interactions.llama import EncoderCall, Floats
from trainer.service import Service

HEADER_BYTES = 64 << 10
"""Room in a body for the header and for each query's indices."""
NAME_BYTES = 1 << 10
"""Room in a body for the names of one query's slots."""
IDLE_SECONDS = 4.0
"""Less than a connection is kept for: a scorer that is started anew in a shorter while breaks it, which is noticed."""
_EXACTLY = ("revision", "dtype", "quantization", "query_hash", "hidden")
"""What must be equal at all clients' scorers. The same weights may go by another name."""


class WrongScorer(Exception):
    """The client's scorer is not the one that the training is fixed to."""


@dataclass(frozen=True)
class Names:
    """What entities and relations are called, by row; sent to the scorer beside their vectors."""

    entities: list[str]
    relations: list[str]

    @classmethod
    def of(cls, entities: list[str], relations: list[str]) -> "Names":
        """Ids made readable."""
        return cls([_readable(e) for e in entities], [_readable(r) for r in relations])

    def message(self, call: EncoderCall) -> dict[str, object]:
        """The texts of one call's rows, as `protocol.encoding.EncodeHeader` has them."""
        relations = len(self.relations)
        return {
            "entity_texts": {i: {"name": self.entities[row]} for i, row in enumerate(call.entity_rows)},
            # Reciprocal relations follow the plain ones and share their names; the template says which side is asked.
            "relation_texts": {
                i: {"name": self.relations[row % relations]} for i, row in enumerate(call.relation_rows)
            },
        }


def _readable(name: str) -> str:
    return name.replace("_", " ").strip() or name


class ScorerClient:
    """An `Encoder` that asks the scorer service.

    Args:
        service: Where the scorer is.
        names: What to send beside the vectors; nothing by default.

    Raises:
        ServiceUnreachable, ProblemError: As `Service` says; every call may.
    """

    def __init__(self, service: Service, names: Names | None = None) -> None:
        self.service, self.names = service, names
        self._known, self.info = service.failures, self._ask()
        self._called = time.monotonic()
        self.hidden = self.info.hidden

    @property
    def identity(self) -> ScorerIdentity:
        """What a training is fixed to."""
        return ScorerIdentity(**{field: getattr(self.info, field) for field in ScorerIdentity.model_fields})

    def require(self, wanted: ScorerIdentity) -> None:
        """Refuse to work for a training that is fixed to another scorer.

        Raises:
            WrongScorer: Its weights, dtype, quantisation or templates differ.
        """
        mine = self.identity
        if differs := [field for field in _EXACTLY if getattr(mine, field) != getattr(wanted, field)]:
            raise WrongScorer(
                f"the scorer at {self.service.url} serves {mine.model} ({mine.revision[:12]}), but the training is "
                f"fixed to {wanted.model} ({wanted.revision[:12]}): {', '.join(differs)} differ. "
                "Start a scorer with that model and revision, and give its address"
            )

    def encode(self, call: EncoderCall, keep: bool = False) -> Floats:
        """States of the queries, float32 [q, hidden], in as many calls as the scorer's limits ask for.

        With `keep`, the scorer holds on to what it computed for a few seconds, and `gradient` costs half as much.
        """
        return np.concatenate([self._encode(call.part(queries)[0], keep) for queries in self._parts(call)])

    def gradient(self, call: EncoderCall, grad_states: Floats) -> tuple[Floats, Floats]:
        """d(loss)/d(vectors) of entities [n, k, hidden] and relations [m, k, hidden], summed over the calls."""
        entities, relations = np.zeros_like(call.entities), np.zeros_like(call.relations)
        for queries in self._parts(call):
            part, entity_rows, relation_rows = call.part(queries)
            found = self._gradient(part, grad_states[queries])
            entities[entity_rows] += found[0]
            relations[relation_rows] += found[1]
        return entities, relations

    def _parts(self, call: EncoderCall) -> Iterator[slice]:
        """Queries in parts that are within the limits, whatever they share."""
        limits = self.info.limits
        numbers = (call.entities.shape[1] + call.relations.shape[1] + 1) * self.hidden
        room = limits.max_body_bytes - HEADER_BYTES
        most = min(
            limits.max_prompts,
            limits.max_slots,
            limits.max_call_tokens // limits.max_prompt_tokens,
            room // (4 * numbers + (NAME_BYTES if self.names else 0)),
        )
        for start in range(0, len(call.queries), max(1, most)):
            yield slice(start, start + max(1, most))

    def _encode(self, call: EncoderCall, keep: bool) -> Floats:
        sizes = {"q": len(call.queries), "hidden": self.hidden}
        return self._post("/encode", self._body(call, {}, keep=keep), ENCODE_REPLY_TENSORS, sizes)["states"]

    def _gradient(self, call: EncoderCall, grad_states: Floats) -> tuple[Floats, Floats]:
        body = self._body(call, {"grad_states": grad_states})
        sizes = {"n": len(call.entities), "m": len(call.relations), "hidden": self.hidden}
        sizes |= {"k": call.entities.shape[1], "l": call.relations.shape[1]}
        gradients = self._post("/encode/gradient", body, ENCODE_GRADIENT_REPLY_TENSORS, sizes)
        return gradients["entities"], gradients["relations"]

    def _post(
        self, path: str, body: bytes, specs: Mapping[str, tensors.TensorSpec], sizes: Mapping[str, int]
    ) -> dict[str, NDArray[Any]]:
        """A reply's tensors. A scorer that was started anew as another one in mid-training is refused.

        Replies say their revision and templates. Precision is in `/info` alone, which is read again after a failure.
        """
        if time.monotonic() - self._called > IDLE_SECONDS:
            self._ask_again()  # it may have been started anew meanwhile, without a call that failed
        self._called = time.monotonic()
        try:
            arrays, message = tensors.decode(self.service.tensors("POST", path, body), specs, sizes)
        except NotFound as error:
            raise WrongScorer(f"there is no scorer at {self.service.url} any more: {error.detail}") from error
        except (BodyTooLarge, InvalidRequest):
            self._ask_again()  # another scorer may refuse, or answer otherwise, what the former one took
            raise
        if self.service.failures != self._known:
            self._ask_again()
        made_by = (message.get("revision"), message.get("template_hash"))
        if made_by != (self.info.revision, self.info.query_hash):
            raise self._another()
        return arrays

    def _ask_again(self) -> None:
        now = self._ask()
        if any(getattr(now, field) != getattr(self.info, field) for field in _EXACTLY):
            raise self._another()
        # Its limits may have changed.
        self._known, self.info = self.service.failures, now

    def _ask(self) -> Info:
        return Info.model_validate_json(self.service.json("GET", "/info"))

    def _another(self) -> WrongScorer:
        return WrongScorer(
            f"the scorer at {self.service.url} serves another model than when this training began; start it with the "
            "former model and revision, and start again: nothing that was trained is lost"
        )

    def _body(self, call: EncoderCall, extra: Mapping[str, NDArray[np.float32]], **said: object) -> bytes:
        arrays: dict[str, NDArray[Any]] = {
            "entities": call.entities,
            "relations": call.relations,
            "queries": call.queries,
            "sides": call.sides,
        }
        message = {"layer": call.layer} | (self.names.message(call) if self.names else {})
        return tensors.encode(arrays | dict(extra), message | said)
