"""More calls at once than there is room for."""

import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import httpx
import pytest

from .requests import JSON, SHORT
from .serving import PATIENCE, Process, crowd, eventually, metric, opened, problem, scorer

QUEUE = 4
LARGE = json.dumps({"triples": [{"head": f"h{n}", "relation": "r", "tail": f"t{n}"} for n in range(150)]})
ROOM = 64 << 20
"""Bytes that a process may grow by without being said to hold what it was sent."""


@pytest.fixture(scope="module")
def crowded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    with scorer(tmp_path_factory.mktemp("crowded"), SCORER_QUEUE=str(QUEUE)) as running:
        yield running


def test_ten_times_the_queue_gives_429_and_no_growth_and_full_service_after(crowded: Process) -> None:
    crowded.post("/score", content=LARGE, headers=JSON).raise_for_status()
    before, callers = crowded.resident, 10 * (QUEUE + 1)
    started = threading.Barrier(callers)

    def call(_: int) -> list[int]:
        with httpx.Client(base_url=crowded.base_url, timeout=PATIENCE) as own:
            started.wait()
            found = []
            for _ in range(3):
                reply = own.post("/score", content=LARGE, headers=JSON)
                assert reply.status_code == 200 or reply.headers["retry-after"] == "1"
                found.append(reply.status_code)
            return found

    with ThreadPoolExecutor(callers) as pool:
        statuses = [status for found in pool.map(call, range(callers)) for status in found]
    assert set(statuses) == {200, 429}
    assert statuses.count(429) > callers
    assert crowded.resident - before < ROOM
    assert metric(crowded, "queue_length") == 0
    assert metric(crowded, "refusals_total", route="/score", reason="busy") == statuses.count(429)
    for _ in range(10):
        assert crowded.post("/score", content=LARGE, headers=JSON).status_code == 200


def test_the_surplus_is_refused_before_its_body_comes(crowded: Process) -> None:
    with ExitStack() as stack:
        crowd(crowded, [], stack)
        late = opened(crowded.port, "/score", "Content-Type: application/json", "Content-Length: 100000")
        told = problem(stack.enter_context(late))  # nothing of its body was sent
        assert told.status == 429
        assert told.model_extra == {"retry_after": 1}
        # Gradients have places of their own, and who only looks needs none.
        assert crowded.post("/score/gradient", json=SHORT | {"grad_scores": [1.0]}).status_code == 200
        assert crowded.get("/ready").status_code == crowded.get("/info").status_code == 200
    eventually(lambda: crowded.post("/score", json=SHORT).status_code == 200)
