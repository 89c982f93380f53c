import os
import re
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from .support import INVITATION, OPERATOR, ROOT, Server, launch, members, settings_of


def start_and_fail(port: int, variables: dict[str, str]) -> tuple[int, str]:
    process = launch(port, variables)
    _, errors = process.communicate(timeout=30)
    return process.returncode, errors


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"COORDINATOR_OPERATOR_TOKEN": ""}, "set exactly one of COORDINATOR_OPERATOR_TOKEN and"),
        ({"COORDINATOR_INVITATION_TOKEN": ""}, "nobody could join: set COORDINATOR_INVITATION_TOKEN"),
        ({"COORDINATOR_DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none"}, "the database does not answer"),
        ({"COORDINATOR_BLOBS": "nonsense://bucket"}, "the blobs at nonsense://bucket cannot be used"),
        ({"COORDINATOR_INVITATION_TOKEN": "changethis"}, "COORDINATOR_INVITATION_TOKEN must have at least 16"),
        ({"COORDINATOR_DATA_DIR": "/dev/null/data"}, "the blobs at /dev/null/data cannot be used"),
    ],
)
def test_a_wrong_setting_is_one_clear_line(tmp_path: Path, changes: dict[str, str], reason: str) -> None:
    code, errors = start_and_fail(0, settings_of(tmp_path) | changes)
    assert code != 0
    assert errors.startswith("The coordinator cannot start: ")
    assert reason in errors
    assert len(errors.splitlines()) == 1


def test_a_file_that_is_no_database_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "coordinator.sqlite3").write_bytes(b"no database" * 1000)
    code, errors = start_and_fail(0, settings_of(tmp_path))
    assert code != 0
    assert errors.startswith("The coordinator cannot start: ")
    assert (tmp_path / "coordinator.sqlite3").read_bytes() == b"no database" * 1000


def test_a_port_in_use(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        code, errors = start_and_fail(taken.getsockname()[1], settings_of(tmp_path))
    assert code != 0
    assert "address already in use" in errors


def test_sigterm_ends_long_polls_at_once(tmp_path: Path) -> None:
    server = Server(tmp_path)
    views: list[int] = []
    event = server.view().event
    waiter = threading.Thread(target=lambda: views.append(server.view(wait=20, after=event).event))
    waiter.start()
    time.sleep(0.3)
    start = time.monotonic()
    server.stop()
    waiter.join(5)
    server.close()
    assert views == [event]
    assert time.monotonic() - start < 5


def test_a_member_outlives_a_restart_and_no_secret_is_kept(tmp_path: Path) -> None:
    server = Server(tmp_path)
    (member,) = members(2)
    server.join(member)
    server.stop()
    server.start()
    assert server.view(member).clients == 1
    server.close()
    kept = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    for secret in (OPERATOR, INVITATION):
        assert secret.encode() not in kept


def test_health_and_readiness(shared_server: Server) -> None:
    for path in ("/health", "/ready"):
        reply = shared_server.http.get(path)
        assert (reply.status_code, reply.json()) == (200, {"status": "ok"})


def test_the_service_needs_no_torch() -> None:
    probe = "import sys, services.coordinator.app; print([m for m in ('torch', 'transformers') if m in sys.modules])"
    command = [sys.executable, "-c", probe]
    found = subprocess.run(
        command, capture_output=True, text=True, check=True, env=os.environ | {"PYTHONPATH": str(ROOT)}
    )
    assert found.stdout.strip() == "[]"


def test_the_api_page_is_honest(shared_server: Server) -> None:
    document = shared_server.http.get("/openapi.json").json()
    assert "HTTPValidationError" not in str(document)
    references = set(re.findall(r"#/components/schemas/(\w+)", str(document)))
    assert references <= set(document["components"]["schemas"])
    assert set(document["components"]["securitySchemes"]) == {"Token", "Signature", "Session"}
    for path, methods in document["paths"].items():
        for operation in methods.values():
            if path not in ("/", "/health", "/ready", "/metrics", "/session", "/problems/{kind}"):
                assert {"401", "403", "422"} <= set(operation["responses"])
                assert operation["security"], path
    assert shared_server.http.get("/docs").status_code == 200
