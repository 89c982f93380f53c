from collections.abc import Callable
from pathlib import Path

import fsspec.core
import pytest

from .blobs_suite import BlobsSuite
from .places import Place


def files_below(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


class TestSqliteAndFolder(BlobsSuite):
    @pytest.fixture
    def place(self, tmp_path: Path) -> Place:
        return Place(str(tmp_path))

    def files(self, place: Place) -> set[str]:
        found = files_below(Path(place.folder))
        return {name for name in found if not name.startswith("coordinator.") and not name.endswith(".lock")}


class TestPostgresAndFileUrl(BlobsSuite):
    @pytest.fixture
    def place(self, tmp_path: Path, postgres_url: str) -> Place:
        return Place(str(tmp_path), postgres_url, f"file://{tmp_path}/blobs")

    def files(self, place: Place) -> set[str]:
        return files_below(Path(place.folder) / "blobs")


class TestPostgresAndS3(BlobsSuite):
    @pytest.fixture
    def place(self, tmp_path: Path, postgres_url: str, s3: Callable[[], str]) -> Place:
        return Place(str(tmp_path), postgres_url, s3())

    def files(self, place: Place) -> set[str]:
        assert place.blobs_url is not None
        files, root = fsspec.core.url_to_fs(place.blobs_url, use_listings_cache=False)
        return {name.removeprefix(root + "/") for name in files.find(root)}
