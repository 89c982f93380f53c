"""The API pages say of every operation what a reader needs."""

import json
from typing import Any

import pytest

from protocol.problems import KINDS, PAGES, ProblemError
from tests.api.calling import ROOT
from tests.coordinator.support import Server

DOCUMENTS = {
    service: json.loads((ROOT / "docs" / "openapi" / f"{service}.json").read_text(encoding="utf-8"))
    for service in ("scorer", "coordinator")
}
OPERATIONS = [
    pytest.param(service, method, path, operation, id=f"{service} {method.upper()} {path}")
    for service, document in DOCUMENTS.items()
    for path, methods in document["paths"].items()
    for method, operation in methods.items()
]


@pytest.mark.parametrize(("service", "method", "path", "operation"), OPERATIONS)
def test_an_operation_is_described(service: str, method: str, path: str, operation: dict[str, Any]) -> None:
    assert operation["summary"]
    assert operation["description"]
    assert operation["tags"]
    assert all(parameter["description"] for parameter in operation.get("parameters", ()))
    known = {tag["name"] for tag in DOCUMENTS[service]["tags"]}
    assert set(operation["tags"]) <= known


@pytest.mark.parametrize("service", DOCUMENTS)
def test_operation_ids_are_names_that_tell_operations_apart(service: str) -> None:
    paths = DOCUMENTS[service]["paths"].values()
    ids = [operation["operationId"] for methods in paths for operation in methods.values()]
    assert len(set(ids)) == len(ids)
    assert all(each.isidentifier() for each in ids)


@pytest.mark.parametrize(("service", "method", "path", "operation"), OPERATIONS)
def test_every_refusal_has_an_example_that_leads_to_its_page(
    service: str, method: str, path: str, operation: dict[str, Any]
) -> None:
    for status, response in operation["responses"].items():
        if int(status) < 400 or "text/html" in response["content"]:
            continue
        (media,) = response["content"]
        assert media == "application/problem+json"
        example = response["content"][media]["example"]
        assert (example["status"], bool(example["title"]), bool(example["detail"])) == (int(status), True, True)
        assert example["type"].startswith(f"{PAGES}/")


@pytest.mark.parametrize(("service", "method", "path", "operation"), OPERATIONS)
def test_bodies_have_media_types_and_json_has_examples(
    service: str, method: str, path: str, operation: dict[str, Any]
) -> None:
    content = operation.get("requestBody", {}).get("content", {})
    for media, described in content.items():
        assert media in ("application/json", "application/safetensors")
        assert media != "application/json" or described["examples"]
    for status, response in operation["responses"].items():
        assert "content" in response or status in ("204", "304"), status


@pytest.mark.parametrize("kind", [ProblemError, *KINDS.values()], ids=lambda kind: kind.kind)
def test_a_problem_has_a_page_that_says_how_to_mend_it(shared: Server, kind: type[ProblemError]) -> None:
    reply = shared.http.get(kind("").document().type)
    assert reply.status_code == 200
    assert reply.headers["content-type"].startswith("text/html")
    assert kind.title in reply.text
    assert "How to mend it" in reply.text
    assert "<script" not in reply.text


def test_an_unknown_problem_has_no_page(shared: Server) -> None:
    assert shared.http.get(f"{PAGES}/none").status_code == 422


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Any:
    running = Server(tmp_path_factory.mktemp("data"))
    yield running
    running.close()


def test_the_api_page_needs_no_other_address(shared: Server) -> None:
    page = shared.http.get("/docs").text
    assert "https://" not in page.replace("https://fastapi.tiangolo.com/img/favicon.png", "")
