import socket
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from threading import Thread

import pytest

from protocol.problems import KINDS, Busy, NotFound, NotReady, ProblemError, StorageFull, Unauthorized
from protocol.signatures import Signer, content_digest, public_bytes, read_signature, verify
from tests.trainer.support import DROP, Loopback, Reply, loopback
from trainer.clients.retries import MEMBER_GIVES_UP_AFTER, ServiceUnreachable
from trainer.clients.service import AddressWrong, ClockWrong, Service

OK: Reply = (200, b"fine")


def refusal(problem: ProblemError) -> Reply:
    return problem.status, problem.document().model_dump_json(exclude_defaults=True).encode()


BUSY = refusal(Busy("the queue is full", retry_after=7))
NOT_READY = refusal(NotReady("loading"))
NO_ROOM = refusal(StorageFull("the disk is full"))


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

    def start(
        *replies: Reply,
        token: str | None = None,
        give_up_after: float = 60.0,
        signer: Signer | None = None,
        prefix: str = "",
    ) -> tuple[Loopback, Service]:
        left = list(replies)
        context = loopback(lambda path, body: left.pop(0) if len(left) > 1 else left[0])
        running = context.__enter__()
        service = Service("coordinator", running.url + prefix + "/", token, said.append, give_up_after, signer)
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


@pytest.mark.parametrize("fault", [DROP, NOT_READY, BUSY, NO_ROOM, (503, b"<html>proxy</html>"), (429, b"")])
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


@pytest.mark.parametrize("kind", [kind for kind in KINDS.values() if kind not in (Busy, NotReady, StorageFull)])
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
    assert str(error.value).startswith(f"the scorer at {url} did not answer for 0 s")
    assert len(said) == 1
    assert service.failures > service.lost == 0  # nobody was there to do it
    assert waits


@pytest.mark.parametrize(
    ("seconds", "words"), [(20.0, "20 s"), (119.0, "119 s"), (300.0, "5 minutes"), (MEMBER_GIVES_UP_AFTER, "24 hours")]
)
def test_it_says_for_how_long_a_call_is_tried(serve: Serve, said: list[str], seconds: float, words: str) -> None:
    _, service = serve(NOT_READY, OK, give_up_after=seconds)
    service.json("GET", "/round")
    assert len(said) == 1
    assert said[0].endswith(f"trying again for {words}")


@pytest.mark.parametrize(
    ("fault", "away", "end", "told"),
    [
        (NOT_READY, 5.0, OK, False),
        (NOT_READY, 600.0, OK, True),
        (NOT_READY, 600.0, refusal(NotFound("the round is over")), True),
        (BUSY, 600.0, OK, False),  # which is an answer
    ],
)
def test_a_service_that_was_away_for_long_is_said_to_be_back(
    serve: Serve, said: list[str], monkeypatch: pytest.MonkeyPatch, fault: Reply, away: float, end: Reply, told: bool
) -> None:
    clock = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(time, "sleep", lambda seconds: clock.append(clock.pop() + away))
    server, service = serve(fault, fault, end, OK, give_up_after=1e6)
    with suppress(NotFound):
        service.json("GET", "/round")
    service.json("GET", "/round")
    assert [text for text in said if "again" in text.split("; ")[0]] == [
        f"the coordinator at {server.url} answers again"
    ] * told


@pytest.mark.parametrize(
    "url", ["127.0.0.1:8000", "ftp://127.0.0.1", "scorer", "", "http://127.0.0.1:port", "http://a\0b"]
)
def test_an_address_that_cannot_be_right_is_not_tried_again(url: str, waits: list[float], said: list[str]) -> None:
    def call() -> None:
        with Service("scorer", url, None, said.append) as service:
            service.json("GET", "/info")

    with pytest.raises(AddressWrong) as error:
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


def signed_by(signer: Signer, server: Loopback) -> list[str]:
    """The nonces of all requests so far, each checked as the coordinator does: as it was on the wire."""
    nonces = []
    for method, path, headers, body in server.seen:
        lower = {name.lower(): value for name, value in headers.items()}
        verify(method, f"http://coordinator{path}", lower, public_bytes(signer.public_key))
        assert lower["content-digest"] == content_digest(body)
        nonces.append(read_signature(lower).nonce)
    return nonces


def test_every_request_is_signed_as_it_is_sent(serve: Serve) -> None:
    signer = Signer.generate()
    server, service = serve(OK, signer=signer, prefix="/a%20b/Ω")
    service.json("GET", "/round", wait=25, after=3)
    service.json("POST", "/clients", '{"Ω": 1}', token="invitation")
    service.json("DELETE", "/clients/c1")
    service.tensors("PUT", "/round/1/update", b"\x00\xff" * 1000)
    assert server.seen[0][1].endswith("/round?wait=25&after=3")
    assert len(set(signed_by(signer, server))) == 4
    # The invitation goes with joining alone: elsewhere it would be taken for an operator's token.
    assert [headers.get("Authorization") for _, _, headers, _ in server.seen] == [None, "Bearer invitation", None, None]


def test_a_retry_is_signed_anew(serve: Serve) -> None:
    signer = Signer.generate()
    server, service = serve(DROP, NOT_READY, OK, signer=signer)
    service.tensors("PUT", "/round/1/update", b"the update")
    assert len(set(signed_by(signer, server))) == 3


@pytest.mark.parametrize(("hours", "word"), [(1, "behind"), (-1, "ahead of")])
def test_a_clock_that_is_wrong_is_told_with_how_far_it_is_off(serve: Serve, hours: int, word: str) -> None:
    theirs = datetime.fromtimestamp(time.time() + 3600 * hours, UTC).isoformat()
    server, service = serve(refusal(Unauthorized("too old", server_time=theirs)), signer=Signer.generate())
    with pytest.raises(ClockWrong, match=rf"clock is (3599|3600|3601) s {word} .*; set it") as error:
        service.json("GET", "/round")
    assert server.url in str(error.value)
    assert len(server.seen) == 1


@pytest.mark.parametrize("stated", ["yesterday", 5, None])
def test_a_time_that_is_none_leaves_the_refusal_as_it_is(serve: Serve, stated: object) -> None:
    _, service = serve(refusal(Unauthorized("too old", server_time=stated)), signer=Signer.generate())
    with pytest.raises(Unauthorized, match="too old"):
        service.json("GET", "/round")


def test_a_download_that_breaks_off_is_begun_anew(tmp_path: Path, waits: list[float], said: list[str]) -> None:
    """The first reply is shorter than it said it would be."""
    with socket.create_server(("127.0.0.1", 0)) as listener, (tmp_path / "model").open("wb+") as out:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"

        def answer(body: bytes) -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\nConnection: close\r\n\r\n" + body)

        server = Thread(target=lambda: [answer(body) for body in (b"012345", b"abcdefghij")])
        server.start()
        with Service("coordinator", url, None, said.append) as service:
            service.download("/model", out, training="t1")
        server.join()
        out.seek(0)
        assert out.read() == b"abcdefghij"
    assert len(said) == 1


def test_what_failed_is_counted_and_what_was_busy_is_not(serve: Serve) -> None:
    _, service = serve(DROP, BUSY, NOT_READY, BUSY, NO_ROOM, OK)
    service.json("GET", "/info")
    assert (service.failures, service.lost) == (3, 2)


def test_a_call_may_ask_for_a_shorter_wait(waits: list[float], said: list[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with Service("coordinator", url, None, said.append, 0.01) as service, pytest.raises(ServiceUnreachable):
            service.json("GET", "/round", seconds=0.05)
