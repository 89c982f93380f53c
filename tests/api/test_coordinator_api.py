"""Schemathesis asks a live coordinator all that its API page allows, and much that it does not."""

from collections.abc import Iterator

import pytest
from schemathesis import Case

from tests.api.calling import Shares, api_of
from tests.api.federation import Federation
from tests.coordinator.support import Server

schema = api_of("coordinator", examples=15)
SHARES = Shares()


@pytest.fixture(scope="module")
def federation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    server = Server(tmp_path_factory.mktemp("data"))
    yield Federation(server)
    server.close()


@schema.exclude(path="/events").parametrize()
def test_what_an_operation_answers_is_what_its_page_says(case: Case, federation: Federation) -> None:
    federation.aim(case)
    SHARES.ask(case, str(federation.server.http.base_url), federation.headers(case))


def test_every_operation_was_answered_with_success(capsys: pytest.CaptureFixture[str]) -> None:
    with capsys.disabled():
        print(f"\n{SHARES}")
    for operation in schema.exclude(path="/events").get_all_operations():
        assert SHARES.share(operation.ok().label) > 0, operation.ok().label
