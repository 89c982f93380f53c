"""What the documents show is what the system does."""

import asyncio
import http.server
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import tomllib
from pathlib import Path
from typing import ClassVar

import pytest
import typer
from pydantic import BaseModel

from protocol.rounds import TrainingSummary
from protocol.signatures import Signer, public_bytes, read_signature, verify
from protocol.trainings import AggregationSettings, Dense, LocalSettings, ScorerIdentity, TrainingSettings
from services.coordinator.settings import CoordinatorSettings
from services.scorer.service import Service
from services.scorer.settings import Settings
from services.web import JSON
from trainer.cli import app

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def call_of(path: str) -> tuple[bytes, dict[str, object]]:
    """The body that the README sends to a path with curl, and the reply that it shows."""
    found = re.search(
        rf"curl http://127\.0\.0\.1:\d+{path} .*?--data '(.*?)'\n```\n```json\n(.*?)\n```", README, re.DOTALL
    )
    assert found, path
    return found[1].encode(), json.loads(found[2])


def test_the_score_that_the_readme_shows() -> None:
    body, shown = call_of("/score")
    service = Service(Settings())
    answered = json.loads(asyncio.run(service.answer(service.score, body, JSON)))
    for name in ("scores", "probabilities", "masses"):
        assert answered.pop(name) == pytest.approx(shown.pop(name), abs=1e-4)
    assert answered == shown


def test_the_training_that_the_readme_shows() -> None:
    body, shown = call_of("/round")
    assert json.loads(TrainingSummary.model_validate(shown).model_dump_json()) == shown
    assert shown["settings"] == json.loads(TrainingSettings.model_validate_json(body).model_dump_json())


def test_every_command_is_in_the_readme() -> None:
    commands = {str(name) for name in typer.main.get_command(app).commands}  # type: ignore[attr-defined]  # a group
    assert commands == set(re.findall(r"^\| `tripleherd (\w+)` \|", README, re.MULTILINE))


def test_every_setting_is_in_the_settings_page() -> None:
    page = (ROOT / "docs" / "reference" / "settings.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \|.*\| ([^|]*) \|$", page, re.MULTILINE)
    said = {name: words for name, words in rows if words}
    services: tuple[tuple[str, type[BaseModel]], ...] = (("SCORER_", Settings), ("COORDINATOR_", CoordinatorSettings))
    for prefix, settings in services:
        documented = {name for name in said if name.startswith(prefix)}
        assert documented == {prefix + name.upper() for name in settings.model_fields}
        for name, field in settings.model_fields.items():
            assert said[prefix + name.upper()] == str(field.description)
    for settings in (TrainingSettings, LocalSettings, AggregationSettings, ScorerIdentity, Dense):
        assert set(settings.model_fields) <= set(said)
    sources = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "trainer").rglob("*.py"))
    assert {name for name in said if name.startswith("TRAINER_")} == set(re.findall(r'envvar="(TRAINER_\w+)"', sources))


def test_the_example_env_file_lists_what_compose_takes_with_its_defaults() -> None:
    compose = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
    compose = compose.replace("${COMPOSE_PROJECT_NAME}", "tripleherd")  # which Compose takes from the file's first line
    taken = dict(re.findall(r"\$\{(\w+):?-((?:\$\{[^}]*\}|[^}])*)\}", compose))
    example = (ROOT / ".env.example").read_text(encoding="utf-8")
    listed = dict(re.findall(r"^(\w+)=(.*)$", example, re.MULTILINE))
    # The build argument has its default in the Dockerfile.
    index = listed.pop("TORCH_INDEX")
    assert f"ARG TORCH_INDEX={index}\n" in (ROOT / "docker" / "Dockerfile").read_text(encoding="utf-8")
    assert listed == taken
    # Without a default here, so that they stay unset where nobody sets them.
    passed_on = re.findall(r"^ +(AWS_\w+):$", compose, re.MULTILINE)
    assert passed_on == re.findall(r"AWS_\w+", example)


def test_the_install_page_has_every_extra() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    page = (ROOT / "docs" / "how-to" / "install.md").read_text(encoding="utf-8")
    rows = "".join(row for row in page.splitlines() if row.startswith("| `"))
    # `services` is a part of two others, and who needs the last two calls make.
    assert set(project["optional-dependencies"]) - {"services", "dev", "docs"} <= set(re.findall(r"`(\w+)`", rows))


def functions_of(path: str) -> set[str]:
    """The tests that a file defines; those of a class with its name before them."""
    found: set[str] = set()
    inside = ""
    for line in (ROOT / path).read_text(encoding="utf-8").splitlines():
        if defined := re.match(r"class (\w+)|(    )?(?:async )?def (\w+)", line):
            made, indented, function = defined.groups()
            inside = made or (inside if indented else "")
            if function:
                found.add(f"{inside}::{function}" if indented else function)
    return found


def test_every_promise_of_the_reliability_page_has_a_test() -> None:
    page = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
    rows = [row for row in page.splitlines() if row.startswith("| ")][1:]
    assert rows
    assert "TODO" not in page
    for row in rows:
        tests = row.strip("| ").rpartition(" | ")[2]
        named = re.findall(r"`(tests/[\w/]+\.py)::([\w:]+)`", tests)
        assert named, row
        assert tests.count("`") == 2 * len(named), f"not a test: {tests}"
        for path, name in named:
            assert name in functions_of(path), f"{path} has no {name}"


def test_links_between_documents_lead_somewhere() -> None:
    for page in (*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")):
        text = page.read_text(encoding="utf-8")
        for path, section in re.findall(r"\]\((?!https?:)([^)#]*)#?([^)]*)\)", text):
            target = page.parent / path if path else page
            assert target.exists(), f"{page.name}: {path}"
            if section:
                titles = re.findall(r"^#+ (.*)$", target.read_text(encoding="utf-8"), re.MULTILINE)
                assert section in {re.sub(r"[^\w -]", "", t).lower().replace(" ", "-") for t in titles}, section


def parts(readme: str) -> dict[str, list[str]]:
    """What two languages have in common: blocks, code in lines, links, and the shape of sections and tables."""
    blocks = re.findall(r"```.*?```", readme, re.DOTALL)
    prose = re.sub(r"```.*?```", "", readme, flags=re.DOTALL)
    return {
        "blocks": blocks,
        "code": sorted(set(re.findall(r"`([^`]+)`", prose))),
        "links": sorted(set(re.findall(r"\]\(([^)]+)\)", prose)) - {"README.md", "README.zh-CN.md"}),
        "rows": [row[:2] for row in prose.splitlines() if row.startswith(("## ", "| ", "- "))],
    }


def test_the_chinese_readme_has_the_same_commands_and_sections() -> None:
    chinese = (ROOT / "README.zh-CN.md").read_text(encoding="utf-8")
    assert parts(chinese) == parts(README)


def test_the_site_builds_and_every_page_is_in_it(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path)]
    done = subprocess.run(
        command, cwd=ROOT, env=os.environ | {"NO_MKDOCS_2_WARNING": "1"}, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for page in (ROOT / "docs").rglob("*.md"):
        place = tmp_path / page.relative_to(ROOT / "docs").with_suffix("")
        assert (tmp_path if place.name == "index" else place).joinpath("index.html").is_file(), page


class Recorder(http.server.BaseHTTPRequestHandler):
    """Answers GET with nothing, and keeps what was asked."""

    requests: ClassVar[list[tuple[str, str, dict[str, str]]]] = []

    def do_GET(self) -> None:
        self.requests.append((self.command, self.path, {name.lower(): value for name, value in self.headers.items()}))
        self.send_response(204)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


def test_a_request_signed_with_openssl_as_the_coordinators_page_shows(tmp_path: Path) -> None:
    if missing := [name for name in ("bash", "curl", "openssl") if shutil.which(name) is None]:
        pytest.skip(f"{missing[0]} is not installed")
    page = (ROOT / "docs" / "coordinator.md").read_text(encoding="utf-8")
    script = next(block for block in re.findall(r"```bash\n(.*?)```", page, re.DOTALL) if "Signature-Input" in block)
    signer = Signer.generate()
    (tmp_path / "key.pem").write_bytes(signer.to_pem())
    with http.server.HTTPServer(("127.0.0.1", 0), Recorder) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        environment = os.environ | {"COORDINATOR": f"http://127.0.0.1:{server.server_port}", "no_proxy": "127.0.0.1"}
        subprocess.run(["bash", "-euo", "pipefail", "-c", script], cwd=tmp_path, env=environment, check=True)
        server.shutdown()
    method, path, headers = Recorder.requests.pop()
    assert read_signature(headers).key_id == signer.key_id
    verify(method, f"http://coordinator{path}", headers, public_bytes(signer.public_key))
