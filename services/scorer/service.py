"""What each route does, as plain functions of a body: read it, check it, run the engine, write the reply."""

from protocol.problems import InvalidRequest
from protocol.scoring import Info, Limits, Provenance, TemplateInfo, Usage
from services.scorer import wire
from services.scorer.engine import Engine
from services.scorer.loading import Loaded, LoadError, load
from services.scorer.requests import check_call
from services.scorer.settings import Settings
from services.scorer.templates import READOUTS, SIDES, Template, query_hash, shipped
from services.scorer.words import NoVerdictTokens
from services.web import JSON


class Service:
    """A loaded model, warmed, behind functions from body to body.

    Attributes:
        info: What `GET /info` says.
    """

    def __init__(self, settings: Settings) -> None:
        """Load the model and run it once.

        Raises:
            LoadError: It cannot be loaded or used.
        """
        loaded = load(settings)
        self._templates = shipped()
        self._limits = settings.limits(loaded.model.config.max_position_embeddings)
        try:
            self._engine = Engine(loaded, self._templates, self._limits)
        except NoVerdictTokens as error:
            raise LoadError(f"cannot use {loaded.name!r}: {error}") from error
        self.info = _info(loaded, self._templates, self._limits)
        self._warm()

    def score(self, body: bytes, media: str) -> bytes:
        """`POST /score`. Raises the refusals of `protocol.problems`, as its neighbours."""
        call = wire.read_score(body, media, self._engine.hidden)
        verdicts = [name for name, readout in READOUTS.items() if readout == "verdict"]
        if call.template not in verdicts:
            raise InvalidRequest.of("template", f"no such template for scores; there is {', '.join(verdicts)}")
        check_call(call, self._limits, self._engine.hidden)
        scores, usage = self._engine.score(call)
        return wire.write_score(scores, self._made_by(call.template, usage), media)

    def encode(self, body: bytes, media: str) -> bytes:
        """`POST /encode`."""
        call = wire.read_encode(body, media, self._engine.hidden)
        check_call(call, self._limits, self._engine.hidden)
        states, usage = self._engine.encode(call)
        return wire.write_encode(states, self._made_by(None, usage), media)

    def encode_gradient(self, body: bytes, media: str) -> bytes:
        """`POST /encode/gradient`."""
        call, grad_states = wire.read_encode_gradient(body, media, self._engine.hidden)
        check_call(call, self._limits, self._engine.hidden)
        entities, relations, usage = self._engine.encode_gradient(call, grad_states)
        return wire.write_encode_gradient(call, entities, relations, self._made_by(None, usage), media)

    def _made_by(self, template: str | None, usage: Usage) -> Provenance:
        """Where a result comes from; without a template, it is a state, and both sides' templates are named."""
        return Provenance(
            model=self.info.model,
            revision=self.info.revision,
            template=template or "+".join(SIDES.values()),
            template_hash=self._templates[template].hash if template else self.info.query_hash,
            readout="verdict" if template else "state",
            usage=usage,
        )

    def _warm(self) -> None:
        """The first call of every kind pays for allocations and kernels: let it not be a client's."""
        self.score(b'{"triples": [{"head": "a", "relation": "b", "tail": "c"}]}', JSON)
        slots = b'"entities": [{"name": "a"}], "relations": [{"name": "b"}]'
        body = b'{%s, "queries": [[0, 0], [0, 0]], "sides": [0, 1]}' % slots
        call = wire.read_encode(body, JSON, self._engine.hidden)
        states, _ = self._engine.encode(call)
        self._engine.encode_gradient(call, states)


def _info(loaded: Loaded, templates: dict[str, Template], limits: Limits) -> Info:
    config = loaded.model.config
    return Info(
        model=loaded.name,
        revision=loaded.revision,
        architecture="LlamaForCausalLM",
        dtype=str(loaded.model.dtype).removeprefix("torch."),
        hidden=config.hidden_size,
        layers=config.num_hidden_layers,
        vocabulary=config.vocab_size,
        readouts=sorted(set(READOUTS.values())),
        templates={name: TemplateInfo(text=t.text, hash=t.hash, readout=t.readout) for name, t in templates.items()},
        query_hash=query_hash(templates),
        limits=limits,
    )
