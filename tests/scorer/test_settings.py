import pytest
from pydantic import ValidationError

from services.scorer.settings import Settings


def test_every_setting_is_described() -> None:
    assert all(field.description for field in Settings.model_fields.values())


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCORER_MODEL", "some/model")
    monkeypatch.setenv("SCORER_QUEUE", "3")
    settings = Settings()
    assert (settings.model, settings.queue) == ("some/model", 3)
    with pytest.raises(ValidationError):
        settings.queue = 4  # type: ignore[misc]  # frozen: what must fail


def test_a_limit_that_makes_no_sense_is_refused() -> None:
    with pytest.raises(ValidationError):
        Settings(max_prompts=0)


def test_the_models_own_maximum_bounds_prompts() -> None:
    assert Settings().limits(100).max_prompt_tokens == 100
    assert Settings(max_prompt_tokens=50).limits(100).max_prompt_tokens == 50
