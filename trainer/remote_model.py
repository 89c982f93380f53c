"""The scorer as the trainer sees it: the frozen LLaMA's states and scores, and their gradients, over HTTP.

What the scorer sees of a client: what stands in the slots, and which of them stand together in a prompt. Words are
among it only where the client has agreed to that.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from protocol import tensors
from protocol.encoding import ENCODE_GRADIENT_REPLY_TENSORS, ENCODE_REPLY_TENSORS
from protocol.forms import TrainedReadout
from protocol.info import combined_hash
from protocol.problems import BodyTooLarge, InvalidRequest, NotFound
from protocol.scoring import SCORE_GRADIENT_REPLY_TENSORS, SCORE_REPLY_TENSORS, Loss
from protocol.trainings import LocalSettings, ScorerIdentity
from trainer.clients.scorer import Scorer
from trainer.clients.service import Service
from trainer.interactions.llama_calls import EncoderCall, Floats, ScoreCall
from trainer.scorer_bodies import encode_body, parts, score_body

IDLE_SECONDS = 4.0
"""Less than a connection is kept for: a scorer that is started anew in a shorter while breaks it, which is noticed."""
_EXACTLY = ("revision", "dtype", "quantization", "query_hash", "hidden", "description_tokens")
"""What must be equal at all clients' scorers. The same weights may go by another name."""


class WrongScorer(Exception):
    """The client's scorer is not the one that the training is fixed to."""


class Gradients:
    """Gradients of a call's vectors, summed over its parts; float32 as the vectors are."""

    def __init__(self, call: EncoderCall | ScoreCall) -> None:
        self.entities, self.relations = np.zeros_like(call.entities.vectors), np.zeros_like(call.relations.vectors)

    def add(self, rows: Sequence[NDArray[np.integer]], found: Sequence[Floats]) -> None:
        """Add those of a part's entities and relations, which stand for the given rows."""
        self.entities[rows[0]] += found[0]
        self.relations[rows[1]] += found[1]


class RemoteModel:
    """A `FrozenModel` that asks the scorer service.

    Args:
        service: Where the scorer is.

    Raises:
        ServiceUnreachable, ProblemError: As `Service` says; every call may.
    """

    def __init__(self, service: Service) -> None:
        self._scorer, self.service = Scorer(service), service
        self._known, self.info = service.failures, self._scorer.info()
        self._called = time.monotonic()
        self.hidden = self.info.hidden

    def identity(self, local: LocalSettings) -> ScorerIdentity:
        """What a training with these settings is fixed to.

        Raises:
            WrongScorer: The scorer cannot be read so.
        """
        said = {field: getattr(self.info, field) for field in ScorerIdentity.model_fields}
        if local.layer != "none":
            said["query_hash"] = self._hash(local.readout, local.prompts)
            self._require_sides(local.prompts)
        if local.texts != "descriptions":
            said["description_tokens"] = None
        return ScorerIdentity(**said)

    def require(self, wanted: ScorerIdentity, local: LocalSettings) -> None:
        """Refuse to work for a training that is fixed to another scorer.

        Raises:
            WrongScorer: Its weights, dtype, quantisation or templates differ, or where it cuts the descriptions sent.
        """
        mine = self.identity(local)
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
        total = Gradients(call)
        for queries in self._parts(call):
            part, *rows = call.part(queries)
            total.add(rows, self._gradient(part, grad_states[queries]))
        return total.entities, total.relations

    def score(self, call: ScoreCall) -> Floats:
        """Scores of the triples, float32 [t], in as many calls as the scorer's limits ask for."""
        return np.concatenate([self._score(call.part(triples)[0]) for triples in self._parts(call)])

    def score_gradient(self, call: ScoreCall, loss: Loss, group: int) -> tuple[float, Floats, Floats]:
        """A loss of groups of triples, and its gradients as of `gradient`: the mean of the calls', by their groups."""
        total, value = Gradients(call), 0.0
        for triples in self._parts(call, group):
            part, *rows = call.part(triples)
            share = len(part.triples) / len(call.triples)
            of_part, *gradients = self._score_gradient(part, loss, group)
            value += share * of_part
            total.add(rows, [np.float32(share) * gradient for gradient in gradients])
        return value, total.entities, total.relations

    def _parts(self, call: EncoderCall | ScoreCall, group: int = 1) -> Iterator[slice]:
        return parts(call, self.info.limits, self.hidden, group)

    def _encode(self, call: EncoderCall, keep: bool) -> Floats:
        sizes = {"q": len(call.queries), "hidden": self.hidden}
        body, made_by = encode_body(call, {}, keep=keep), self._hash("state", call.templates)
        return self._post("/encode", body, ENCODE_REPLY_TENSORS, sizes, made_by)[0]["states"]

    def _gradient(self, call: EncoderCall, grad_states: Floats) -> list[Floats]:
        body, made_by = encode_body(call, {"grad_states": grad_states}), self._hash("state", call.templates)
        specs, sizes = ENCODE_GRADIENT_REPLY_TENSORS, self._sizes(call)
        found, _ = self._post("/encode/gradient", body, specs, sizes, made_by)
        return [found["entities"], found["relations"]]

    def _score(self, call: ScoreCall) -> Floats:
        body, made_by = score_body(call, {}), self._hash(call.readout, (call.template,))
        return self._post("/score", body, SCORE_REPLY_TENSORS, {"t": len(call.triples)}, made_by)[0]["scores"]

    def _score_gradient(self, call: ScoreCall, loss: Loss, group: int) -> tuple[float, Floats, Floats]:
        groups = np.repeat(np.arange(len(call.triples) // group, dtype=np.int32), group)
        body = score_body(call, {"groups": groups}, loss=loss.model_dump())
        made_by = self._hash(call.readout, (call.template,))
        specs, sizes = SCORE_GRADIENT_REPLY_TENSORS, self._sizes(call) | {"t": len(call.triples)}
        found, message = self._post("/score/gradient", body, specs, sizes, made_by)
        if not isinstance(value := message.get("loss"), float):
            raise InvalidRequest.of("message.loss", "is missing from the scorer's reply")
        return value, found["entities"], found["relations"]

    def _sizes(self, call: EncoderCall | ScoreCall) -> dict[str, int]:
        """Of gradients."""
        return {
            "n": len(call.entities),
            "m": len(call.relations),
            "k": call.entities.vectors.shape[1],
            "l": call.relations.vectors.shape[1],
            "hidden": self.hidden,
        }

    def _hash(self, readout: TrainedReadout, names: Sequence[str]) -> str:
        """The hash that replies made with these templates say.

        Raises:
            WrongScorer: The scorer has not all of them for the readout.
        """
        usable = {name: said.hash for name, said in self.info.templates.items() if readout in said.readouts}
        if missing := [name for name in names if name not in usable]:
            raise WrongScorer(
                f"the scorer at {self.service.url} has no template {missing[0]!r} for the readout `{readout}`; "
                f"it has {', '.join(usable) or 'none that its model can be read for'}"
            )
        hashes = [usable[name] for name in names]
        return hashes[0] if len(hashes) == 1 else combined_hash(hashes)

    def _require_sides(self, names: Sequence[str]) -> None:
        """Refuse templates of a pair that do not ask for the tail and for the head."""
        asks = [self.info.templates[name].asks for name in names]
        if len(names) == 2 and asks != ["tail", "head"]:
            raise WrongScorer(
                f"templates: the first asks for the tail, the second for the head; at {self.service.url} "
                f"{names[0]!r} asks for the {asks[0]}, {names[1]!r} for the {asks[1]}"
            )

    def _post(
        self,
        path: str,
        body: bytes,
        specs: Mapping[str, tensors.TensorSpec],
        sizes: Mapping[str, int],
        template_hash: str,
    ) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """A reply's tensors and message. A scorer that was started anew as another one in mid-training is refused.

        Replies say their revision and templates. Precision is in `/info` alone, which is read again after a failure.
        """
        if time.monotonic() - self._called > IDLE_SECONDS:
            self._ask_again()  # it may have been started anew meanwhile, without a call that failed
        self._called = time.monotonic()
        try:
            arrays, message = self._scorer.tensors(path, body, specs, sizes)
        except NotFound as error:
            raise WrongScorer(f"there is no scorer at {self.service.url} any more: {error.detail}") from error
        except (BodyTooLarge, InvalidRequest):
            self._ask_again()  # another scorer may refuse, or answer otherwise, what the former one took
            raise
        if self.service.failures != self._known:
            self._ask_again()
        made_by = (message.get("revision"), message.get("template_hash"))
        if made_by != (self.info.revision, template_hash):
            raise self._another()
        return arrays, message

    def _ask_again(self) -> None:
        now = self._scorer.info()
        if any(getattr(now, field) != getattr(self.info, field) for field in _EXACTLY) or any(
            now.templates.get(name) != template for name, template in self.info.templates.items()
        ):
            raise self._another()
        # Its limits may have changed.
        self._known, self.info = self.service.failures, now

    def _another(self) -> WrongScorer:
        return WrongScorer(
            f"the scorer at {self.service.url} serves another model than when this training began; start it with the "
            "former model and revision, and start again: nothing that was trained is lost"
        )
