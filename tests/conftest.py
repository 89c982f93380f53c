"""Servers that several tests share; each test has a database, or a bucket, of its own on them."""

import itertools
import os
from collections.abc import Callable, Iterator
from typing import NoReturn

import pytest
from playwright.sync_api import Browser

from tests import browser as browsers
from tests.postgres import Missing, Postgres


def _do_without(missing: Exception) -> NoReturn:
    """Skip what needs what is missing; where all of it must have been tested, fail."""
    if os.environ.get("CI"):
        pytest.fail(str(missing))
    pytest.skip(str(missing))


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """Calling it gives the URL of a fresh database."""
    try:
        server = Postgres()
    except Missing as error:
        _do_without(error)
    yield server
    server.close()


@pytest.fixture
def postgres_url(postgres: Postgres) -> Iterator[str]:
    """A fresh database, dropped after the test."""
    url = postgres()
    yield url
    postgres.drop(url)


@pytest.fixture(scope="session")
def s3() -> Iterator[Callable[[], str]]:
    """An S3 server for this process and those that it starts; calling it gives the URL of a fresh bucket."""
    pytest.importorskip("s3fs", reason="s3fs is not installed")
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    numbers = itertools.count(1)
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        environment.setenv("AWS_ACCESS_KEY_ID", "tests")
        environment.setenv("AWS_SECRET_ACCESS_KEY", "tests-secret")
        environment.setenv("AWS_DEFAULT_REGION", "us-east-1")
        environment.setenv("NO_PROXY", "127.0.0.1")
        yield lambda: f"s3://bucket-{next(numbers)}/coordinator"
    server.stop()


@pytest.fixture(scope="module")  # while it is open, the thread has an event loop of its own
def browser() -> Iterator[Browser]:
    """A headless Chromium."""
    try:
        with browsers.chromium() as running:
            yield running
    except browsers.Missing as missing:
        _do_without(missing)
