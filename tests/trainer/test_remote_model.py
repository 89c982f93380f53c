import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Timer

import numpy as np
import pytest
import torch

from protocol import tensors
from protocol.encoding import ENCODE_GRADIENT_TENSORS, ENCODE_TENSORS, EncodeHeader, Layer
from protocol.info import Info, Limits, TemplateInfo, combined_hash
from protocol.problems import Busy, InvalidRequest, NotReady
from protocol.trainings import LocalSettings, ScorerIdentity
from trainer.clients.service import Service
from trainer.inputs import UsageError, wanted_training
from trainer.interactions import Llama
from trainer.interactions.llama_calls import EncoderCall, Slots
from trainer.prompting import Prompting
from trainer.remote_model import RemoteModel, WrongScorer
from trainer.slot_texts import SlotTexts
from trainer.texts import Text

from .encoders import HIDDEN, TinyEncoder
from .support import DROP, Loopback, Reply, batch, loopback
from .test_llama import ASKED, LOCAL, SLOTS, leaves, tables_of

LIMITS = Limits(**(dict.fromkeys(Limits.model_fields, 1 << 20) | {"max_prompt_tokens": 64}))
ASKING = {
    name: TemplateInfo(text=name, hash=f"h-{name}", asks=asks, readouts=["state"], labels=["yes", "no"])
    for name, asks in {"query": "tail", "query_head": "head", "bare": "tail", "bare_head": "head"}.items()
}
INFO = Info(
    backend="llama", model="tiny", revision="r1", architecture="a", dtype="float32", device="cpu", quantization=None,
    hidden=HIDDEN, layers=1, vocabulary=9, readouts=["state"], templates=ASKING,
    query_hash=combined_hash(["h-query", "h-query_head"]), description_tokens=64,
    batch_tokens=64, merge=True, keep_seconds=1.0, limits=LIMITS,
)  # fmt: skip
TOLD: dict[str, object] = {}
"""What the last call said beside its tensors."""
MADE_BY = {"revision": INFO.revision, "template_hash": INFO.query_hash}
TEXTS = SlotTexts([Text(f"e{e}", f"of e{e}" if e % 2 else None) for e in range(8)], [Text("r0"), Text("r1")])


def decoded(arrays: dict[str, tensors.Array]) -> EncoderCall:
    """A call as the scorer reads it from the wire."""
    slots = [Slots(arrays[name]) for name in ("entities", "relations")]
    return EncoderCall(*slots, arrays["queries"], arrays["sides"])


def tiny_scorer(path: str, body: bytes) -> Reply:
    """The routes of the scorer that the trainer calls, in front of the stand-in."""
    if path == "/info":
        return 200, INFO.model_dump_json().encode()
    specs = ENCODE_GRADIENT_TENSORS if path == "/encode/gradient" else ENCODE_TENSORS
    arrays, message = tensors.decode(body, specs, {"hidden": HIDDEN})
    TOLD.update(message)
    encoder = TinyEncoder(SLOTS)
    if path == "/encode":
        return 200, tensors.encode({"states": encoder.encode(decoded(arrays))}, MADE_BY)
    entities, relations = encoder.gradient(decoded(arrays), arrays["grad_states"])
    return 200, tensors.encode({"entities": entities, "relations": relations}, MADE_BY)


@pytest.fixture
def server() -> Iterator[Loopback]:
    with loopback(tiny_scorer) as running:
        yield running


def test_a_batch_over_the_scorers_limits_goes_in_several_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for most in (1 << 20, 2, 1):
        monkeypatch.setattr(
            sys.modules[__name__],
            "INFO",
            INFO.model_copy(update={"limits": LIMITS.model_copy(update={"max_prompts": most})}),
        )
        with loopback(tiny_scorer) as server, Service("scorer", server.url, None, print) as service:
            tables = tables_of(torch.float32)
            query = Llama(RemoteModel(service), LOCAL).query(tables, batch(ASKED))
            query.square().sum().backward()
            calls = -(-len(query) // most)
            assert [path for _, path, _, _ in server.seen].count("/encode") == calls
            found.append([query.detach(), *(t.grad for t in leaves(tables).values())])
    for split in found[1:]:
        for whole, part in zip(found[0], split, strict=True):
            assert whole is not None
            assert torch.allclose(whole, part, atol=1e-6)


@pytest.fixture
def service(server: Loopback) -> Iterator[Service]:
    with Service("scorer", server.url, None, print, give_up_after=5) as made:
        yield made


def header(server: Loopback) -> EncodeHeader:
    """What the last call said beside its vectors."""
    _, path, headers, body = server.seen[-1]
    assert headers["Content-Type"] == "application/safetensors"
    specs = ENCODE_GRADIENT_TENSORS if path == "/encode/gradient" else ENCODE_TENSORS
    return EncodeHeader.model_validate(tensors.decode(body, specs)[1])


def test_a_query_over_http_and_its_gradient_are_those_in_process(service: Service) -> None:
    found = {}
    for name, encoder in (("http", RemoteModel(service)), ("here", TinyEncoder(SLOTS))):
        tables = tables_of(torch.float32)
        query = Llama(encoder, LOCAL).query(tables, batch(ASKED))
        query.square().sum().backward()
        found[name] = [query.detach(), *(t.grad for t in leaves(tables).values())]
    for over_http, here in zip(found["http"], found["here"], strict=True):
        assert over_http is not None
        assert torch.equal(over_http, here)


def test_no_word_goes_along_by_default(server: Loopback, service: Service) -> None:
    Llama(RemoteModel(service), LOCAL).query(tables_of(torch.float32), batch(ASKED)).sum().backward()
    assert [path for _, path, _, _ in server.seen] == ["/info", "/encode", "/encode/gradient"]
    assert header(server) == EncodeHeader(templates=("query", "query_head"))
    server.seen.pop()
    assert header(server) == EncodeHeader(templates=("query", "query_head"), keep=True)


@pytest.mark.parametrize("layer", ["middle", 1])
def test_the_layer_of_the_training_is_read_forth_and_back(server: Loopback, service: Service, layer: Layer) -> None:
    Llama(RemoteModel(service), LOCAL.model_copy(update={"layer": layer})).query(
        tables_of(torch.float32), batch(ASKED)
    ).sum().backward()
    assert [path for _, path, _, _ in server.seen] == ["/info", "/encode", "/encode/gradient"]
    assert header(server).layer == layer
    server.seen.pop()
    assert header(server).layer == layer


@pytest.mark.parametrize("layer", [1, 2])
def test_a_layer_that_the_model_lacks_is_refused(service: Service, layer: int) -> None:
    scorer = RemoteModel(service)
    if layer == INFO.layers:
        assert wanted_training("llama", {}, {"layer": layer}).settings(scorer).local.layer == layer
    else:
        with pytest.raises(UsageError, match="layer: 2 is more than the 1"):
            wanted_training("llama", {}, {"layer": layer}).settings(scorer)


def test_what_is_ranked_need_not_be_kept_by_the_scorer(server: Loopback, service: Service) -> None:
    with torch.no_grad():
        Llama(RemoteModel(service), LOCAL).query(tables_of(torch.float32), batch(ASKED))
    assert not header(server).keep


def test_texts_belong_to_their_rows(server: Loopback, service: Service) -> None:
    llama = Llama(RemoteModel(service), LOCAL, Prompting(TEXTS))
    llama.query(tables_of(torch.float32), batch(ASKED)).sum().backward()
    sent = header(server).model_dump(exclude_unset=True)
    assert sent["entity_texts"] == {0: {"name": "e2"}, 1: {"name": "e5", "description": "of e5"}}
    assert sent["relation_texts"] == {0: {"name": "r0"}, 1: {"name": "r1"}}


VERDICT = LocalSettings(readout="verdict")


def test_a_scorer_that_cannot_be_read_so_is_named(service: Service) -> None:
    with pytest.raises(WrongScorer, match="no template 'triple' for the readout `verdict`; it has none"):
        RemoteModel(service).identity(VERDICT)


@pytest.mark.parametrize("then", ["h1", "h2"])
def test_a_training_of_triples_is_fixed_to_their_template(monkeypatch: pytest.MonkeyPatch, then: str) -> None:
    def serve(digest: str) -> None:
        template = TemplateInfo(text="t", hash=digest, asks="tail", readouts=["verdict"], labels=["yes", "no"])
        monkeypatch.setattr(
            sys.modules[__name__], "INFO", INFO.model_copy(update={"templates": ASKING | {"triple": template}})
        )

    serve("h1")
    with loopback(tiny_scorer) as server, Service("scorer", server.url, None, print) as service:
        wanted = RemoteModel(service).identity(VERDICT)
        assert wanted.query_hash == "h1"
        serve(then)
        if then == "h1":
            RemoteModel(service).require(wanted, VERDICT)
        else:
            with pytest.raises(WrongScorer, match="query_hash differ"):
                RemoteModel(service).require(wanted, VERDICT)


BARE = LocalSettings(templates=["bare", "bare_head"])


def test_a_training_asks_with_the_templates_that_it_names(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    scorer, asked = RemoteModel(service), combined_hash(["h-bare", "h-bare_head"])
    assert scorer.identity(BARE).query_hash == asked
    with pytest.raises(WrongScorer, match="query_hash differ"):
        scorer.require(scorer.identity(LOCAL), BARE)
    query = Llama(scorer, BARE).query
    with pytest.raises(WrongScorer, match="another model"):  # replies say other templates
        query(tables_of(torch.float32), batch(ASKED))
    monkeypatch.setattr(sys.modules[__name__], "MADE_BY", MADE_BY | {"template_hash": asked})
    query(tables_of(torch.float32), batch(ASKED)).sum().backward()
    assert TOLD["templates"] == ["bare", "bare_head"]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["bare", "gone"], "no template 'gone' for the readout `state`; it has query, query_head"),
        (["bare_head", "bare"], "'bare_head' asks for the head"),
    ],
)
def test_templates_that_the_scorer_cannot_use_are_named(service: Service, names: list[str], message: str) -> None:
    with pytest.raises(WrongScorer, match=message):
        RemoteModel(service).identity(LocalSettings(templates=names))


def test_a_training_with_descriptions_is_fixed_to_where_they_are_cut(service: Service) -> None:
    scorer, told = RemoteModel(service), LocalSettings(texts="descriptions")
    wanted = scorer.identity(told)
    assert (wanted.description_tokens, scorer.identity(LOCAL).description_tokens) == (64, None)
    with pytest.raises(WrongScorer, match="description_tokens differ"):
        scorer.require(wanted.model_copy(update={"description_tokens": 32}), told)


@pytest.mark.parametrize("change", [{}, {"model": "the same weights under another name"}])
def test_the_scorer_of_the_training_is_accepted(service: Service, change: dict[str, str]) -> None:
    scorer = RemoteModel(service)
    scorer.require(scorer.identity(LOCAL).model_copy(update=change), LOCAL)


@pytest.mark.parametrize(
    "change",
    [{"revision": "r2"}, {"dtype": "float16"}, {"quantization": "4bit"}, {"query_hash": "q2"}, {"hidden": HIDDEN + 1}],
)
def test_another_scorer_is_refused_with_what_differs(service: Service, change: dict[str, object]) -> None:
    scorer = RemoteModel(service)
    wanted = ScorerIdentity.model_validate(scorer.identity(LOCAL).model_dump() | change)
    with pytest.raises(WrongScorer, match=next(iter(change))) as refusal:
        scorer.require(wanted, LOCAL)
    assert service.url in str(refusal.value)


@pytest.mark.parametrize("shape", [(4, HIDDEN), (5, HIDDEN - 1)])
def test_a_reply_of_the_wrong_size_is_refused(shape: tuple[int, int]) -> None:
    def wrong(path: str, body: bytes) -> Reply:
        reply = tensors.encode({"states": np.zeros(shape, dtype=np.float32)})
        return tiny_scorer(path, body) if path == "/info" else (200, reply)

    with loopback(wrong) as server, Service("scorer", server.url, None, print) as service:
        llama = Llama(RemoteModel(service), LOCAL)
        with pytest.raises(InvalidRequest, match="states"):
            llama.query(tables_of(torch.float32), batch(ASKED))


@pytest.mark.parametrize("change", [{"revision": "r2"}, {"template_hash": "q2"}])
def test_a_scorer_that_comes_back_with_another_model_is_noticed(
    service: Service, monkeypatch: pytest.MonkeyPatch, change: dict[str, str]
) -> None:
    query = Llama(RemoteModel(service), LOCAL).query(tables_of(torch.float32), batch(ASKED))
    monkeypatch.setattr(sys.modules[__name__], "MADE_BY", MADE_BY | change)
    with pytest.raises(WrongScorer, match="another model"):
        query.sum().backward()


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What is waited between two tries, in seconds; nothing is really waited."""
    asked: list[float] = []
    monkeypatch.setattr(time, "sleep", asked.append)
    return asked


def trained_by(url: str) -> list[torch.Tensor]:
    """A query and its gradients over HTTP, as one batch of a training."""
    with Service("scorer", url, None, lambda text: None, give_up_after=5) as service:
        tables = tables_of(torch.float32)
        query = Llama(RemoteModel(service), LOCAL).query(tables, batch(ASKED))
        query.square().sum().backward()
        return [query.detach(), *(t.grad for t in leaves(tables).values() if t.grad is not None)]


def faulty(*faults: Reply, then: Callable[[], None] = lambda: None) -> Callable[[str, bytes], Reply]:
    """A scorer that answers so before it answers well."""
    left = list(faults)

    def respond(path: str, body: bytes) -> Reply:
        if path != "/info" and left:
            if len(left) == 1:
                then()
            return left.pop(0)
        return tiny_scorer(path, body)

    return respond


def refusal(problem: Busy | NotReady) -> Reply:
    return problem.status, problem.document().model_dump_json(exclude_defaults=True).encode()


@pytest.mark.parametrize(
    "faults",
    [
        (DROP, DROP, DROP),
        (refusal(Busy("full", retry_after=3)),) * 4,
        (refusal(NotReady("loading")), (502, b"<html>"), DROP, refusal(Busy("full"))),
    ],
)
def test_a_scorer_that_is_down_or_busy_for_a_while_changes_no_number(
    server: Loopback, waits: list[float], faults: tuple[Reply, ...]
) -> None:
    expected = trained_by(server.url)
    with loopback(faulty(*faults)) as shaky:
        found = trained_by(shaky.url)
    assert len(waits) == len(faults)
    assert len(set(waits)) > 1 or waits == [3.0] * len(faults)  # jitter, but for a time that was asked for
    for one, other in zip(expected, found, strict=True):
        assert torch.equal(one, other)


CHANGES = [{"revision": "r2"}, {"dtype": "bfloat16"}, {"quantization": "8bit"}, {"hidden": HIDDEN + 1}]


@pytest.mark.parametrize("change", CHANGES, ids=str)
@pytest.mark.parametrize("fault", [DROP, (502, b"")], ids=["down", "failed"])
def test_a_scorer_that_comes_back_as_another_one_is_refused(
    waits: list[float], monkeypatch: pytest.MonkeyPatch, fault: Reply, change: dict[str, object]
) -> None:
    """Replies say no more than revision and templates, so all else is asked for."""

    def restart() -> None:
        monkeypatch.setattr(sys.modules[__name__], "INFO", INFO.model_copy(update=change))

    with loopback(faulty(fault, then=restart)) as server, pytest.raises(WrongScorer, match="another model"):
        trained_by(server.url)


def test_a_scorer_that_refuses_what_the_former_one_took_is_looked_at_again(monkeypatch: pytest.MonkeyPatch) -> None:
    def respond(path: str, body: bytes) -> Reply:
        if path == "/info":
            return tiny_scorer(path, body)
        monkeypatch.setattr(sys.modules[__name__], "INFO", INFO.model_copy(update={"hidden": HIDDEN * 2}))
        problem = InvalidRequest.of("entities", "of another size than the model")
        return problem.status, problem.document().model_dump_json(exclude_defaults=True).encode()

    with loopback(respond) as server, pytest.raises(WrongScorer, match="nothing that was trained is lost"):
        trained_by(server.url)


def test_limits_of_a_scorer_that_was_started_anew_hold_from_then_on(
    waits: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    def restart() -> None:
        limits = LIMITS.model_copy(update={"max_prompts": 1})
        monkeypatch.setattr(sys.modules[__name__], "INFO", INFO.model_copy(update={"limits": limits}))

    with loopback(faulty(DROP, then=restart)) as server:
        trained_by(server.url)
        asked = [path for _, path, _, _ in server.seen]
    assert asked.count("/encode/gradient") == len(ASKED)


STAND_IN = """
import sys
from tests.trainer.support import loopback
from tests.trainer.test_remote_model import tiny_scorer
with loopback(tiny_scorer) as server:
    print(server.url, flush=True)
    sys.stdin.read()
"""


def test_a_scorer_that_hangs_is_waited_for(server: Loopback) -> None:
    """A real process that is stopped and goes on."""
    expected = trained_by(server.url)
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    process = subprocess.Popen(
        [sys.executable, "-c", STAND_IN], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        process.send_signal(signal.SIGSTOP)
        Timer(1.0, process.send_signal, [signal.SIGCONT]).start()
        for one, other in zip(expected, trained_by(url), strict=True):
            assert torch.equal(one, other)
        process.kill()
