"""Schemathesis asks a live scorer all that its API page allows, and much that it does not."""

from collections.abc import Iterator

import pytest
from schemathesis import Case

from tests.api.calling import Shares, api_of
from tests.scorer.serving import Process, scorer

KEY = "the-key-of-this-test's-scorer"
schema = api_of("scorer", examples=25)
SHARES = Shares()


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    with scorer(tmp_path_factory.mktemp("scorer"), SCORER_MODEL="embedded", SCORER_API_KEY=KEY) as process:
        yield process


@schema.parametrize()
def test_what_an_operation_answers_is_what_its_page_says(case: Case, running: Process) -> None:
    SHARES.ask(case, str(running.base_url), lambda request: {"Authorization": f"Bearer {KEY}"})


def test_every_operation_was_answered_with_success(capsys: pytest.CaptureFixture[str]) -> None:
    with capsys.disabled():
        print(f"\n{SHARES}")
    for operation in schema.get_all_operations():
        assert SHARES.share(operation.ok().label) > 0, operation.ok().label
