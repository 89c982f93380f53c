import pytest

pytest.register_assert_rewrite(*(f"tests.coordinator.store.{name}" for name in ("suite", "blobs_suite", "places")))
