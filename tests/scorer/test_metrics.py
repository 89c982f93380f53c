import asyncio
from pathlib import Path

import httpx
from fastapi import FastAPI, Response
from prometheus_client.parser import text_string_to_metric_families

from protocol.problems import Busy
from services import logs, web
from services.scorer.metrics import Kind, Metrics

PREFIX = "tripleherd_scorer_"
Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def read(metrics: Metrics) -> Samples:
    """What Prometheus would read, by name without prefix and labels."""
    families = text_string_to_metric_families(metrics.render()[0].decode())
    samples = [sample for family in families for sample in family.samples]
    return {(s.name.removeprefix(PREFIX), frozenset(s.labels.items())): s.value for s in samples}


def value(samples: Samples, name: str, **labels: str) -> float | None:
    return samples.get((name, frozenset(labels.items())))


def test_a_batch_is_counted_by_its_kind() -> None:
    metrics = Metrics()
    metrics.ran("forward", prompts=3, tokens=100, shared=40, calls=2, fill=0.25, seconds=0.2)
    metrics.ran("forward", prompts=1, tokens=10, shared=0, calls=1, fill=1.0, seconds=1.0)
    metrics.ran("gradient", prompts=3, tokens=100, shared=40, calls=1, fill=0.25, seconds=0.4)
    found = read(metrics)
    for name, forward, gradient in [
        ("prompts_total", 4, 3),
        ("tokens_total", 110, 100),
        ("shared_tokens_total", 40, 40),
        ("forward_seconds_count", 2, 1),
        ("forward_seconds_sum", 1.2, 0.4),
    ]:
        assert (value(found, name, kind="forward"), value(found, name, kind="gradient")) == (forward, gradient), name
    assert (value(found, "batch_calls_count"), value(found, "batch_calls_sum")) == (3, 4)
    assert (value(found, "batch_fill_bucket", le="0.3"), value(found, "batch_fill_bucket", le="1.0")) == (2, 3)


def test_waiting() -> None:
    metrics = Metrics()
    metrics.waited("gradient", 0.5)
    metrics.dropped()
    found = read(metrics)
    assert value(found, "queue_wait_seconds_sum", kind="gradient") == 0.5
    assert value(found, "queue_wait_seconds_count", kind="forward") == 0
    assert value(found, "dropped_total") == 1


def test_lengths_are_asked_when_the_numbers_are_read() -> None:
    lengths: dict[Kind, int] = {"forward": 3, "gradient": 0}
    metrics = Metrics()
    assert value(read(metrics), "kept_bytes") == 0
    metrics.watch(lengths.__getitem__, lambda: 1 << 20)
    assert value(read(metrics), "queue_length", kind="forward") == 3
    lengths.update(forward=0, gradient=5)
    found = read(metrics)
    assert [value(found, "queue_length", kind=kind) for kind in lengths] == [0, 5]
    assert value(found, "kept_bytes") == 1 << 20


def served(metrics: Metrics) -> FastAPI:
    app = FastAPI()
    web.install(app)

    @app.get("/busy/{item}")
    async def busy(item: int) -> None:
        raise Busy("come back")

    @app.get("/fault")
    async def fault() -> None:
        raise RuntimeError("this is what the test asks for")

    @app.get("/gone")
    async def gone() -> Response:
        return Response(status_code=499)

    @app.get("/metrics")
    async def render() -> Response:
        body, media = metrics.render()
        return Response(body, media_type=media)

    app.add_middleware(logs.RequestLog, ended=metrics.answered)
    return app


def get(app: FastAPI, *paths: str) -> list[httpx.Response]:
    async def send() -> list[httpx.Response]:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://scorer") as client:
            return [await client.get(path) for path in paths]

    return asyncio.run(send())


def test_requests_and_refusals_are_counted_by_route() -> None:
    metrics = Metrics()
    get(served(metrics), "/busy/1", "/busy/2", "/busy/x", "/fault", "/gone", "/metrics")
    found = read(metrics)
    assert value(found, "requests_total", route="/busy/{item}", status="429") == 2
    assert value(found, "request_seconds_count", route="/busy/{item}") == 3
    refusals = {key: number for key, number in found.items() if key[0] == "refusals_total"}
    assert refusals == {
        ("refusals_total", frozenset({("route", "/busy/{item}"), ("reason", "busy")})): 2,
        ("refusals_total", frozenset({("route", "/busy/{item}"), ("reason", "invalid-request")})): 1,
        ("refusals_total", frozenset({("route", "/fault"), ("reason", "internal-error")})): 1,
    }
    assert value(found, "requests_total", route="/gone", status="499") == 1


def test_paths_that_callers_make_up_make_no_series() -> None:
    metrics = Metrics()
    app = served(metrics)
    get(app, "/nowhere")
    before = read(metrics).keys()
    get(app, *(f"/nowhere/{number}" for number in range(20)), "/busy", "/docs/x")
    after = read(metrics)
    assert after.keys() == before
    assert value(after, "requests_total", route="other", status="404") == 23


def test_the_page_is_what_prometheus_reads() -> None:
    (reply,) = get(served(Metrics()), "/metrics")
    assert reply.headers["content-type"].startswith("text/plain; version=")
    assert reply.headers["content-type"].count("charset") == 1
    names = {family.name for family in text_string_to_metric_families(reply.text)}
    assert {"python_info", f"{PREFIX}queue_length"} <= names
    assert ("process_cpu_seconds" in names) == Path("/proc/self/stat").exists()


def test_applications_in_one_process_count_apart() -> None:
    first, second = Metrics(), Metrics()
    first.dropped()
    assert [value(read(metrics), "dropped_total") for metrics in (first, second)] == [1, 0]
