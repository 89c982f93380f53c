import socket
import time
from collections.abc import Callable, Iterator

import pytest

from protocol.problems import KINDS, Busy, NotFound, NotReady, ProblemError
from trainer.service import Service, ServiceUnreachable

from .support import DROP, Loopback, Reply, loopback

OK: Reply = (200, b"fine")


def refusal(problem: ProblemError) -> Reply:
    return problem.status, problem.document().model_dump_json(exclude_defaults=True).encode()


BUSY = refusal(Busy("the queue is full", retry_after=7))
NOT_READY = refusal(NotReady("loading"))


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What is waited between two tries, in seconds; nothing is really waited."""
    asked: list[float] = []
    monkeypatch.setattr(time, "sleep", asked.append)
    return asked


@pytest.fixture
def said() -> list[str]:
    return []


Serve = Callable[..., tuple[Loopback, Service]]


@pytest.fixture
def serve(waits: list[float], said: list[str]) -> Iterator[Serve]:
    """A server that gives these replies, the last one for ever, and a client of it."""
    open_now = []

    def start(*replies: Reply, token: str | None = None, give_up_after: float = 60.0) -> tuple[Loopback, Service]:
        left = list(replies)
        context = loopback(lambda path, body: left.pop(0) if len(left) > 1 else left[0])
        running = context.__enter__()
        service = Service("coordinator", running.url + "/", token, said.append, give_up_after)
        open_now.append((context, service))
        return running, service

    yield start
    for context, service in open_now:
        service.close()
        context.__exit__(None, None, None)


def test_an_answer_is_returned(serve: Serve, waits: list[float], said: list[str]) -> None:
    server, service = serve(OK)
    assert service.json("GET", "/round", after=3, wait=None) == b"fine"
    assert [(method, path) for method, path, _, _ in server.seen] == [("GET", "/round?after=3")]
    assert waits == said == []


def test_bodies_carry_their_media_type_and_the_token(serve: Serve) -> None:
    server, service = serve(OK, token="s3cret")
    service.json("POST", "/clients", '{"Ω": 1}')
    service.tensors("PUT", "/round/1/update", b"\x00\xff")
    service.tensors("GET", "/round/1/embeddings")
    json, update, get = server.seen
    assert (json[3].decode(), update[3], get[3]) == ('{"Ω": 1}', b"\x00\xff", b"")
    types = [headers.get("Content-Type") for _, _, headers, _ in server.seen]
    assert types == ["application/json", "application/safetensors", None]
    assert {headers["Authorization"] for _, _, headers, _ in server.seen} == {"Bearer s3cret"}


def test_no_token_sends_no_authorization(serve: Serve) -> None:
    server, service = serve(OK)
    service.json("GET", "/info")
    assert "Authorization" not in server.seen[0][2]


@pytest.mark.parametrize("fault", [DROP, NOT_READY, BUSY, (503, b"<html>proxy</html>"), (429, b"")])
def test_a_fault_that_may_pass_is_tried_again_with_the_same_body(
    serve: Serve, waits: list[float], said: list[str], fault: Reply
) -> None:
    server, service = serve(fault, fault, OK)
    assert service.tensors("PUT", "/round/1/update", b"the update") == b"fine"
    assert [body for *_, body in server.seen] == [b"the update"] * 3
    assert len(waits) == 2
    assert all(wait > 0 for wait in waits)
    assert len(said) == 1
    assert server.url in said[0]


def test_waits_grow_and_stay_bounded(serve: Serve, waits: list[float]) -> None:
    _, service = serve(*[NOT_READY] * 12, OK)
    service.json("GET", "/info")
    assert max(waits[:2]) < min(waits[6:]) <= max(waits) <= 15


def test_a_busy_service_is_left_alone_for_as_long_as_it_asked(serve: Serve, waits: list[float]) -> None:
    _, service = serve(BUSY, OK)
    service.json("POST", "/encode")
    assert waits == [7]


@pytest.mark.parametrize("kind", [kind for kind in KINDS.values() if kind not in (Busy, NotReady)])
def test_a_refusal_is_final_and_comes_as_its_own_error(
    serve: Serve, waits: list[float], kind: type[ProblemError]
) -> None:
    server, service = serve(refusal(kind("the reason")))
    with pytest.raises(kind, match="the reason"):
        service.json("GET", "/round")
    assert len(server.seen) == 1
    assert waits == []


@pytest.mark.parametrize("status", [501, 302, 418])
def test_an_answer_that_nobody_expects_is_final_too(serve: Serve, status: int) -> None:
    server, service = serve((status, b""))
    with pytest.raises(ProblemError, match=str(status)):
        service.json("GET", "/round")
    assert len(server.seen) == 1


def test_a_service_that_stays_unready_is_given_up_with_its_reason(serve: Serve) -> None:
    server, service = serve(NOT_READY, give_up_after=0.05)
    with pytest.raises(NotReady, match="loading"):
        service.json("GET", "/round")
    assert len(server.seen) > 1


def test_a_service_that_never_answers_is_given_up_and_its_address_named(waits: list[float], said: list[str]) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{probe.getsockname()[1]}"
        with Service("scorer", url, None, said.append, 0.05) as service, pytest.raises(ServiceUnreachable) as error:
            service.json("GET", "/info")
    assert str(error.value).startswith(f"the scorer at {url} did not answer")
    assert len(said) == 1
    assert waits


@pytest.mark.parametrize(
    "url", ["127.0.0.1:8000", "ftp://127.0.0.1", "scorer", "", "http://127.0.0.1:port", "http://a\0b"]
)
def test_an_address_that_cannot_be_right_is_not_tried_again(url: str, waits: list[float], said: list[str]) -> None:
    def call() -> None:
        with Service("scorer", url, None, said.append) as service:
            service.json("GET", "/info")

    with pytest.raises(ServiceUnreachable) as error:
        call()
    assert url.encode("unicode_escape").decode() in str(error.value)
    assert "is not a URL" in str(error.value)
    assert waits == said == []


def test_what_often_means_a_wrong_address_names_it(serve: Serve) -> None:
    document = b'{"type": "t", "title": "t", "status": 404, "detail": "there is no /round", "current_round": 3}'
    server, service = serve((404, document))
    with pytest.raises(NotFound, match=f"the coordinator at {server.url}: there is no /round") as caught:
        service.json("GET", "/round")
    assert caught.value.extra == {"current_round": 3}
