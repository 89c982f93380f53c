"""What every store does with its blobs, whatever it is made of; a subclass says where the store is."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from services.coordinator.store.blobs import MARK, update_name
from services.coordinator.store.store import Store, StoreUnusable

from .places import CLIENT, DIGEST, Place, add_update, begin, ended, keep_model, keep_update, model, update
from .suite import DatabaseSuite


class BlobsSuite(DatabaseSuite):
    """The blobs of a store, and whether they and the database belong together."""

    def test_what_is_kept_is_whole_and_in_the_place_of_what_was_there(self, store: Store, other: Store) -> None:
        for content in (b"one" * 1000, b"two"):
            keep_model(store.blobs, 3, content)
            keep_update(store.blobs, "3.c.d", content)
            assert update(other.blobs, "3.c.d") == update(store.blobs, "3.c.d") == content
            assert model(store.blobs, 3) == content
        assert model(other.blobs, 3) == b"two"
        assert model(other.blobs, 3) == b"two"

    def test_what_is_not_kept_is_not_found(self, store: Store) -> None:
        with pytest.raises(FileNotFoundError), store.blobs.model(1):
            pass
        with pytest.raises(FileNotFoundError), store.blobs.update("1.c.d"):
            pass

    def test_what_another_process_keeps_and_deletes_is_noticed(self, store: Store, other: Store) -> None:
        assert (store.blobs.models(), store.blobs.updates()) == (set(), set())
        keep_model(other.blobs, 1, b"1")
        keep_update(other.blobs, "1.c.d", b"1")
        assert (store.blobs.models(), store.blobs.updates()) == ({1}, {"1.c.d"})
        assert update(store.blobs, "1.c.d") == b"1"
        other.blobs.prune(2, ())
        assert (store.blobs.models(), store.blobs.updates()) == (set(), set())
        with pytest.raises(FileNotFoundError):
            update(store.blobs, "1.c.d")

    def test_pruning_keeps_the_current_and_the_named_versions(self, store: Store) -> None:
        for version in range(1, 13):
            keep_model(store.blobs, version, b"m")
            keep_update(store.blobs, update_name(version, "c", "d"), b"u")
        store.blobs.prune(11, {2, 9})
        assert store.blobs.models() == {2, 9, 11, 12}
        assert store.blobs.updates() == {update_name(version, "c", "d") for version in (11, 12)}
        with pytest.raises(FileNotFoundError):
            model(store.blobs, 3)

    def test_what_is_open_stays_readable_when_it_is_deleted(self, store: Store) -> None:
        keep_model(store.blobs, 1, b"model" * 1000)
        with store.blobs.model(1) as path, path.open("rb") as file:
            store.blobs.prune(2, ())
            assert file.read() == b"model" * 1000

    def test_a_probe_leaves_nothing(self, place: Place, store: Store) -> None:
        before = self.files(place)
        store.blobs.probe()
        assert self.files(place) == before

    def files(self, place: Place) -> set[str]:
        """The blobs, temporary ones as well: each kind of place has its own way to list them."""
        raise NotImplementedError

    @pytest.mark.parametrize("failpoint", ["blob.written", "blob.synced", "blob.renamed"])
    def test_killed_while_it_keeps_a_blob_the_blob_is_whole_or_absent(
        self, place: Place, store: Store, failpoint: str
    ) -> None:
        content = b"m" * 100_000
        child = place.child(
            f"keep_model(store.blobs, 1, {content[:1]} * {len(content)})", COORDINATOR_FAILPOINT=failpoint
        )
        assert ended(child)[0] == -9
        assert store.blobs.models() == ({1} if failpoint == "blob.renamed" else set())
        keep_model(store.blobs, 2, b"2")
        if failpoint == "blob.renamed":
            assert model(store.blobs, 1) == content
        # Once its round is over, nothing is left of it.
        store.blobs.prune(2, ())
        place.open("second").database.close()
        assert self.files(place) == {MARK, "models/2.safetensors"}

    def test_threads_that_read_many_versions_each_get_theirs(self, store: Store, other: Store) -> None:
        for version in range(12):
            keep_model(store.blobs, version, str(version).encode() * 1000)
        start = threading.Barrier(6)

        def read(reader: int) -> list[bytes]:
            start.wait()
            return [model(other.blobs, (reader + step) % 12)[:2] for step in range(24)]

        with ThreadPoolExecutor(6) as threads:
            found = list(threads.map(read, range(6)))
        whole = [(str(version) * 2)[:2].encode() for version in range(12)]
        assert found == [[whole[(reader + step) % 12] for step in range(24)] for reader in range(6)]

    def test_killed_between_database_and_mark_at_the_first_start_it_starts_again(self, place: Place) -> None:
        first = place.open()
        mark = first.blobs.mark()
        first.blobs._delete(MARK)
        first.database.close()
        again = place.open()
        assert again.blobs.mark() == mark
        again.database.close()

    def test_a_database_that_is_used_is_not_given_empty_blobs(self, place: Place, store: Store) -> None:
        begin(store)
        store.blobs.prune(2, ())
        store.blobs._delete(MARK)
        store.database.close()
        with pytest.raises(StoreUnusable, match=r"the blobs of this database are missing.*restore"):
            place.open()

    def test_a_model_that_is_missing_is_named(self, place: Place, store: Store) -> None:
        begin(store)
        store.blobs.prune(2, ())
        with pytest.raises(StoreUnusable, match=r"1 blobs are missing, first the model of version 1; restore"):
            place.open()

    def test_an_update_that_is_missing_is_named(self, place: Place, store: Store) -> None:
        begin(store)
        add_update(store)
        with pytest.raises(StoreUnusable, match=f"first the update 1.{CLIENT}.{DIGEST}; restore"):
            place.open()

    def test_the_blobs_of_another_store_are_refused(self, place: Place, store: Store) -> None:
        store.blobs.set_mark("another")
        with pytest.raises(StoreUnusable, match="those of two coordinators"):
            place.open()
        assert store.blobs.mark() == "another"

    def test_a_mark_that_is_damaged_is_refused(self, place: Place, store: Store) -> None:
        for content in (b"", b"[1]", b'{"store": 1}'):
            file = store.blobs.temporary()
            file.write_bytes(content)
            store.blobs._keep(MARK, file)
            with pytest.raises(StoreUnusable, match=r"the blobs at .* cannot be used"):
                place.open()
