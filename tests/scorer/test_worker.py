"""Which calls run together, in which order, and what becomes of those whose caller goes or whose batch fails."""

import socket
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import numpy as np
import pytest

from services.scorer.engine.tasks import ScoreTask, Task

from .requests import SHORT, encode_call, score_call, spoken, vectors
from .serving import PATIENCE, Gate, Served, eventually, metric, opened, response, served

MANY = {"triples": [{"head": f"h{n}", "relation": "r", "tail": f"t{n}"} for n in range(12)]}
"""Prompts of about 35 positions each."""


@pytest.fixture(scope="module")
def small() -> Iterator[Served]:
    """A scorer that runs one or two prompts at once."""
    with served(batch_tokens=80) as running:
        yield running


@pytest.fixture(scope="module")
def roomy() -> Iterator[Served]:
    with served() as running:
        yield running


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(16) as threads:
        yield threads


def waiting(running: Served, kind: str = "forward") -> int:
    return int(running.backend.waiting(kind))


def tasks(gate: Gate) -> list[list[Task]]:
    return [[work.task for work in batch] for batch in gate.batches]


def test_a_small_call_waits_for_one_piece_of_a_large_one_and_not_for_all(
    small: Served, pool: ThreadPoolExecutor
) -> None:
    with small.gate() as gate:
        gate.shut()
        large = pool.submit(small.post, "/score", json=MANY)
        gate.arrive()
        little = pool.submit(small.post, "/score", json=SHORT)
        eventually(lambda: waiting(small) == 1)
        gate.step()
        gate.step()
        assert little.result(60).status_code == 200
        assert not large.done()
        gate.open()
        assert len(large.result(60).json()["scores"]) == 12
    first, second, third = tasks(gate)[:3]
    assert first == third != second


def test_scores_and_gradients_are_served_in_turn(small: Served, pool: ThreadPoolExecutor) -> None:
    given = MANY | {"grad_scores": [1.0] * 12}
    with small.gate() as gate:
        gate.shut()
        calls = [pool.submit(small.post, "/score", json=MANY)]
        gate.arrive()
        calls.append(pool.submit(small.post, "/score/gradient", json=given))
        eventually(lambda: waiting(small, "gradient") == 1)
        for _ in range(5):
            gate.step()
        gate.open()
        assert all(call.result(60).status_code == 200 for call in calls)
    kinds = [batch[0].gradient for batch in tasks(gate)[:6]]
    assert kinds == [False, True, False, True, False, True]


def merged(
    running: Served, pool: ThreadPoolExecutor, bodies: list[dict[str, Any]], path: str = "/score"
) -> tuple[list[Any], Gate]:
    """Replies to calls that wait at the same time, in their order, behind one that runs."""
    kind = "gradient" if "gradient" in path else "forward"
    calls: list[Any] = []
    with running.gate() as gate:
        gate.shut()
        first = pool.submit(running.post, "/score", json=SHORT)
        gate.arrive()
        for body in bodies:
            calls.append(pool.submit(running.post, path, json=body))
            eventually(lambda: waiting(running, kind) == len(calls))
        gate.open()
        assert first.result(60).status_code == 200
        return [call.result(60) for call in calls], gate


MIX = [
    SHORT,
    MANY,
    SHORT | {"readout": "likelihood"},
    MANY | {"readout": "number"},
    score_call(vectors_as="input").json,
    score_call(template="short").json,
    {"triples": [{"head": "a much longer name than the others", "relation": "b", "tail": "c"}]},
    SHORT | {"template": "triple_head"},
]


def test_waiting_calls_of_all_kinds_run_in_one_batch_and_score_as_alone(known: Any, pool: ThreadPoolExecutor) -> None:
    mix = [body for body in MIX if body is not MIX[4] and body is not MIX[5]]
    mix += [score_call(known.hidden).json, score_call(known.hidden, template="short").json]
    alone = [known.post("/score", json=body).json()["scores"] for body in mix]
    replies, gate = merged(known, pool, mix)
    assert [len(batch) for batch in gate.batches] == [1, len(mix)]
    for reply, scores in zip(replies, alone, strict=True):
        assert reply.json()["scores"] == pytest.approx(scores, abs=1e-4)


def test_without_merging_each_call_runs_alone_to_the_same_bytes(pool: ThreadPoolExecutor) -> None:
    with served(merge=False) as running:
        alone = [running.post("/score", json=body).content for body in MIX]
        replies, gate = merged(running, pool, MIX)
        assert {len(batch) for batch in gate.batches} == {1}
        assert [reply.content for reply in replies] == alone


def test_gradients_of_several_callers_run_together_and_do_not_mix(known: Any, pool: ThreadPoolExecutor) -> None:
    states = vectors(4, known.hidden, seed=3)
    calls = [encode_call(known.hidden, "/encode/gradient", grad_states=states * scale) for scale in (1, -2, 0.5)]
    alone = [spoken(known, call) for call in calls]
    with known.gate() as gate:
        gate.shut()
        first = pool.submit(spoken, known, calls[0])
        gate.arrive()
        others = [pool.submit(spoken, known, call) for call in calls]
        eventually(lambda: waiting(known, "gradient") == 3)
        gate.open()
        first.result(60)
        found = [other.result(60) for other in others]
    # Each call has prompts of two templates, and all of them run together.
    assert [len(batch) for batch in gate.batches] == [2, 6]
    for told, wanted in zip(found, alone, strict=True):
        for name in ("entities", "relations"):
            for row, expected in zip(told[name], wanted[name], strict=True):
                assert np.allclose(row, expected, atol=1e-4)


def leave_when_waiting(running: Served, body: dict[str, Any], waits: Any) -> None:
    """Send a call by a connection of its own, and close it once `waits` holds."""
    content = httpx.Request("POST", "http://x", json=body).read()
    head = (
        f"POST /score HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", running.port)) as connection:
        connection.sendall(head.encode() + content)
        eventually(waits)


def test_work_whose_caller_has_gone_never_runs(roomy: Served, pool: ThreadPoolExecutor) -> None:
    dropped = metric(roomy, "dropped_total")
    with roomy.gate() as gate:
        gate.shut()
        running = pool.submit(roomy.post, "/score", json=SHORT)
        gate.arrive()
        leave_when_waiting(roomy, MANY, lambda: waiting(roomy) == 1)
        eventually(lambda: waiting(roomy) == 0)
        gate.open()
        assert running.result(60).status_code == 200
        assert roomy.post("/score", json=SHORT).status_code == 200
    assert all(work.task.plan.usage.prompts == 1 for batch in gate.batches for work in batch)
    assert metric(roomy, "dropped_total") == dropped + 1


def test_the_rest_of_a_large_call_whose_caller_has_gone_never_runs(small: Served) -> None:
    with small.gate() as gate:
        gate.shut()
        leave_when_waiting(small, MANY, lambda: len(gate.batches) == 1)
        gate.arrive()
        # Its caller has gone once the place that it took is free again.
        eventually(lambda: not small.app.state.places._taken["forward"])
        gate.open()
        assert small.post("/score", json=SHORT).status_code == 200
    assert [len(batch) for batch in gate.batches] == [1, 1]


def test_half_a_forward_pass_is_kept_for_nobody(small: Served) -> None:
    given = MANY | {"grad_scores": [1.0] * 12}
    wanted = small.post("/score/gradient", json=given).json()
    with small.gate() as gate:
        gate.shut()
        leave_when_waiting(small, MANY | {"keep": True}, lambda: len(gate.batches) == 1)
        gate.arrive()
        eventually(lambda: not small.app.state.places._taken["forward"])
        gate.open()
        assert small.post("/score", json=SHORT).status_code == 200  # the piece at the gate has run
        assert metric(small, "kept_bytes") == 0
        found = small.post("/score/gradient", json=given).json()
    assert found["scores"] == wanted["scores"]
    assert all(work.backward for batch in gate.batches[2:] for work in batch)
    assert sum(len(work.numbers) for batch in gate.batches[2:] for work in batch) == 12


def test_only_the_call_at_fault_of_a_merged_batch_fails(
    roomy: Served, pool: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = roomy.post("/score", json=SHORT).json()["scores"]
    read = ScoreTask.read

    def faulty(task: ScoreTask, *given: Any) -> None:
        if task.plan.usage.prompts == 12:
            raise RuntimeError("this one fails")
        read(task, *given)

    monkeypatch.setattr(ScoreTask, "read", faulty)
    replies, gate = merged(roomy, pool, [SHORT, MANY, SHORT])
    assert [reply.status_code for reply in replies] == [200, 424, 200]
    assert [len(batch) for batch in gate.batches] == [1, 3, 1, 1, 1]
    assert replies[0].json()["scores"] == replies[2].json()["scores"] == pytest.approx(alone, abs=1e-5)


def test_the_others_of_a_failed_batch_get_their_own_loss_and_gradients(
    roomy: Served, pool: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = score_call(path="/score/gradient", loss={"name": "cross_entropy"}, labels=np.ones(5, dtype="f4")).json
    bad = MANY | {"grad_scores": [1.0] * 12}
    alone = roomy.post("/score/gradient", json=good).json()
    given = ScoreTask.given

    def faulty(task: ScoreTask, *what: Any) -> Any:
        if task.plan.usage.prompts == 12:
            raise RuntimeError("this one fails")
        return given(task, *what)

    monkeypatch.setattr(ScoreTask, "given", faulty)
    replies, _ = merged(roomy, pool, [good, bad, good], "/score/gradient")
    assert [reply.status_code for reply in replies] == [200, 424, 200]
    for reply in (replies[0], replies[2]):
        assert reply.json()["loss"] == pytest.approx(alone["loss"], rel=1e-5)
        assert np.allclose(reply.json()["relations"], alone["relations"], atol=1e-5)


def test_a_number_that_is_not_finite_is_its_own_callers_failure(
    roomy: Served, pool: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = ScoreTask.read

    def faulty(task: ScoreTask, work: Any, states: Any, normaliser: Any) -> None:
        read(task, work, states * float("nan") if task.plan.usage.prompts == 12 else states, normaliser)

    monkeypatch.setattr(ScoreTask, "read", faulty)
    replies, gate = merged(roomy, pool, [SHORT, MANY, SHORT])
    assert [reply.status_code for reply in replies] == [200, 424, 200]
    assert "NaN" in replies[1].json()["detail"]
    assert [len(batch) for batch in gate.batches] == [1, 3]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_dead_worker_makes_the_scorer_unready_and_nobody_waits_in_vain(
    pool: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    with served() as running:
        gate = Gate(running.engine)
        gate.shut()
        first = pool.submit(running.post, "/score", json=SHORT)
        gate.arrive()
        behind = pool.submit(running.post, "/score", json=MANY)
        eventually(lambda: waiting(running) == 1)
        monkeypatch.setattr(gate, "_run", lambda works: sys.exit())  # ends the thread, as nothing but a fault does
        gate.open()
        assert first.result(60).status_code == behind.result(60).status_code == 503
        assert running.get("/ready").status_code == 503
        assert running.post("/score", json=SHORT).status_code == 503
        assert running.get("/health").status_code == 200


def test_a_call_that_comes_while_a_worker_ends_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    ending, end = threading.Event(), threading.Event()

    def hook(_: Any) -> None:
        ending.set()
        assert end.wait(PATIENCE)

    monkeypatch.setattr(threading, "excepthook", hook)  # runs in the thread, before it has ended
    with served() as running:
        monkeypatch.setattr(running.engine, "run", lambda works: sys.exit())
        assert running.post("/score", json=SHORT).status_code == 503
        assert ending.wait(PATIENCE)
        try:
            assert any(thread.name.startswith("scorer-0") for thread in threading.enumerate())
            assert running.post("/score", json=SHORT).status_code == 503
            assert running.get("/ready").status_code == 503
        finally:
            end.set()


def test_a_full_queue_refuses_before_it_reads_and_frees_its_places(pool: ThreadPoolExecutor) -> None:
    with served(queue=1) as running:
        with running.gate() as gate:
            gate.shut()
            taken = [pool.submit(running.post, "/score", json=SHORT)]
            gate.arrive()
            taken.append(pool.submit(running.post, "/score", json=SHORT))
            eventually(lambda: waiting(running) == 1)
            # The surplus call promises a body and never sends it: it is answered all the same.
            with opened(running.port, "/score", "Content-Type: application/json", "Content-Length: 9") as surplus:
                refused = response(surplus)
            assert (refused.status, refused.headers["retry-after"]) == (429, "1")
            # Gradients have a lane of their own.
            taken.append(pool.submit(running.post, "/score/gradient", json=SHORT | {"grad_scores": [1.0]}))
            eventually(lambda: waiting(running, "gradient") == 1)
            assert running.get("/ready").status_code == 200
            gate.open()
            assert [call.result(60).status_code for call in taken] == [200, 200, 200]
        assert running.post("/score", json=SHORT).status_code == 200
        assert metric(running, "refusals_total", reason="busy") == 1
