"""What only blobs elsewhere can meet; what all blobs do is in `suite`."""

from collections.abc import Callable
from pathlib import Path

import fsspec
import pytest

from services.coordinator.store.remote import CACHED, RemoteBlobs
from services.coordinator.store.store import StoreUnusable, open_store

from .places import keep_model, model


def test_a_service_that_does_not_answer_is_an_os_error(
    tmp_path: Path, s3: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("s3fs", reason="s3fs is not installed")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    kind = fsspec.get_filesystem_class("s3")
    monkeypatch.setattr(kind, "retries", 1)
    kind.clear_instance_cache()
    with pytest.raises(OSError, match="cannot be reached"):
        RemoteBlobs("s3://bucket/folder", tmp_path)
    with pytest.raises(StoreUnusable, match=r"the blobs at s3://bucket/folder cannot be used: .*cannot be reached"):
        open_store(tmp_path, blobs_url="s3://bucket/folder")
    kind.clear_instance_cache()


@pytest.mark.parametrize("url", ["nonsense://lab:hunter2@host/folder", "nonsense://host/folder"])
def test_a_url_of_no_known_kind_is_named_without_its_password(tmp_path: Path, url: str) -> None:
    with pytest.raises(StoreUnusable, match="the blobs at nonsense://host/folder cannot be used"):
        open_store(tmp_path, blobs_url=url)


def test_a_model_is_fetched_once_and_few_are_kept(tmp_path: Path) -> None:
    blobs = RemoteBlobs(f"file://{tmp_path}/there", tmp_path / "here")
    for version in range(10):
        keep_model(blobs, version, str(version).encode())
    for version in range(8):
        model(blobs, version)
        model(blobs, 0)
    kept = {path.name for path in (tmp_path / "here" / "cache").iterdir()}
    assert len(kept) == CACHED
    # What is read again and again stays, however many others come.
    assert {"models.0.safetensors", "models.7.safetensors"} <= kept
    # A version never changes, so the copy here is not compared with the one there.
    (tmp_path / "there" / "models" / "7.safetensors").write_bytes(b"other")
    assert model(blobs, 7) == b"7"


def test_what_was_fetched_from_elsewhere_is_not_served(tmp_path: Path) -> None:
    for place in ("one", "two"):
        blobs = RemoteBlobs(f"file://{tmp_path}/{place}", tmp_path / "here")
        keep_model(blobs, 1, place.encode())
        assert model(blobs, 1) == place.encode()
    assert model(RemoteBlobs(f"file://{tmp_path}/one", tmp_path / "here"), 1) == b"one"


def test_a_name_that_is_no_blob_is_left_alone(tmp_path: Path) -> None:
    blobs = RemoteBlobs(f"file://{tmp_path}/there", tmp_path / "here")
    note = tmp_path / "there" / "models" / "README"
    note.write_text("do not touch")
    keep_model(blobs, 1, b"1")
    blobs.prune(2, ())
    assert (blobs.models(), note.read_text()) == (set(), "do not touch")
