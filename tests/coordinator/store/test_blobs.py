from pathlib import Path

import numpy as np
import pytest

from services.coordinator.store.blobs import Blobs, update_name


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_left_over_temporary_files_are_swept(tmp_path: Path) -> None:
    Blobs(tmp_path)
    (tmp_path / "models" / "2.safetensors.0a.tmp").write_bytes(b"half")
    (tmp_path / "updates" / "2.c.d.safetensors.0b.tmp").write_bytes(b"half")
    Blobs(tmp_path).write_model(1, {"entities": np.zeros((1, 2), np.float32)})
    assert names(tmp_path / "models") == {"1.safetensors"}
    assert names(tmp_path / "updates") == set()


def test_a_write_that_fails_leaves_the_old_blob(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blobs = Blobs(tmp_path)
    blobs.write_model(1, {"entities": np.zeros((1, 2), np.float32)})

    def fail(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("services.coordinator.blobs.os.fsync", fail)
    with pytest.raises(OSError, match="No space left"):
        blobs.write_model(1, {"entities": np.ones((1, 2), np.float32)})
    assert not blobs.read_model(1)["entities"].any()
    assert names(tmp_path / "models") == {"1.safetensors"}


def test_prune_keeps_the_current_and_the_named_versions(tmp_path: Path) -> None:
    blobs = Blobs(tmp_path)
    for version in range(1, 13):
        blobs.write_model(version, {"entities": np.zeros((1, 2), np.float32)})
        blobs.write_update(update_name(version, "c", "d"), b"")
    blobs.prune(11, {2, 9})
    assert names(tmp_path / "models") == {f"{n}.safetensors" for n in (2, 9, 11, 12)}
    assert names(tmp_path / "updates") == {f"{n}.c.d.safetensors" for n in (11, 12)}
