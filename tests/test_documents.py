"""What the documents show is what the system does."""

import asyncio
import json
import re
from pathlib import Path

import pytest
import typer

from protocol.federation import TrainingSettings, TrainingSummary
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
    assert TrainingSummary.model_validate(shown).settings == TrainingSettings.model_validate_json(body)


def test_every_command_is_in_the_readme() -> None:
    commands = {str(name) for name in typer.main.get_command(app).commands}  # type: ignore[attr-defined]
    assert commands == set(re.findall(r"^\| `tripleherd (\w+)` \|", README, re.MULTILINE))


def test_every_setting_is_in_the_settings_page() -> None:
    page = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
    for prefix, settings in (("SCORER_", Settings), ("COORDINATOR_", CoordinatorSettings)):
        documented = set(re.findall(rf"^\| `{prefix}(\w+)` \|", page, re.MULTILINE))
        assert documented == {name.upper() for name in settings.model_fields}
        for name, field in settings.model_fields.items():
            assert str(field.description) in page, name
    taken = set(re.findall(r'envvar="(TRAINER_\w+)"', (ROOT / "trainer" / "cli.py").read_text(encoding="utf-8")))
    assert set(re.findall(r"^\| `(TRAINER_\w+)` \|", page, re.MULTILINE)) == taken


def test_the_example_env_file_lists_what_compose_takes_with_its_defaults() -> None:
    compose = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
    taken = dict(re.findall(r"\$\{(\w+):-([^}]*)\}", compose))
    example = (ROOT / ".env.example").read_text(encoding="utf-8")
    listed = dict(re.findall(r"^(\w+)=(.*)$", example, re.MULTILINE))
    # The build argument has its default in the Dockerfile.
    index = listed.pop("TORCH_INDEX")
    assert f"ARG TORCH_INDEX={index}\n" in (ROOT / "docker" / "Dockerfile").read_text(encoding="utf-8")
    assert listed == taken
