"""Files on their way to the blobs, in a folder on the local disk; what a process that died has left there is swept."""

import secrets
from pathlib import Path

from filelock import FileLock, Timeout

SUFFIX = ".tmp"


class Temporaries:
    """Paths for temporary files, named after the process that makes them.

    A process holds the lock `<owner>.lock` for as long as it lives, and deletes at its start the files of every owner
    whose lock it can have. So two processes may use one folder, and neither takes the other's files away.
    """

    def __init__(self, folder: Path) -> None:
        """Make the folder where there is none, and sweep it.

        Raises:
            OSError: It cannot be written.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._owner = secrets.token_hex(8)
        self._lock = _lock(folder, self._owner)
        with FileLock(folder.with_suffix(".lock")):  # one that starts meanwhile has its own lock, or not its name yet
            self._lock.acquire()
            self._sweep()

    def fresh(self) -> Path:
        """The path of a file that does not exist; whoever makes the file deletes it, or hands it over."""
        return self._folder / f"{self._owner}.{secrets.token_hex(8)}{SUFFIX}"

    def _sweep(self) -> None:
        for owner in {path.name.partition(".")[0] for path in self._folder.iterdir()} - {self._owner}:
            lock = _lock(self._folder, owner)
            try:
                lock.acquire()
            except Timeout:
                continue
            for path in self._folder.glob(f"{owner}.*"):
                path.unlink(missing_ok=True)
            lock.release()


def _lock(folder: Path, owner: str) -> FileLock:
    # Not bound to a thread: the process holds it, whichever thread made it.
    return FileLock(folder / f"{owner}.lock", timeout=0, thread_local=False)
