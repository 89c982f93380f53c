"""Places where a test can kill the process, as a power cut would: nothing runs after it, nothing is flushed.

`COORDINATOR_FAILPOINT=update.blob_written` kills the first time that place is reached, `…:3` the third time. Without
the variable a failpoint is one comparison. The names are listed here, so that tests can go through all of them.
"""

import os
import signal

FAILPOINTS = (
    "update.received",  # the body is in a temporary file, and checked
    "blob.written",  # a temporary file is written and not flushed
    "blob.synced",  # flushed and not renamed
    "blob.renamed",  # renamed, its folder not flushed
    "update.stored",  # the blob stands, the database does not speak of it
    "update.committed",  # the database does, the client was not answered
    "round.frozen",  # no further update is taken, nothing is aggregated
    "model.stored",  # the next version stands, its round is not open
    "round.opened",  # the next round is open, surplus blobs are not deleted
    "training.settled",  # the evaluated version is decided on
)

_name, _, _count = os.environ.get("COORDINATOR_FAILPOINT", "").partition(":")
_left = int(_count or 1)


def failpoint(name: str) -> None:
    """Die here with SIGKILL if the environment says so."""
    global _left
    if name == _name:
        _left -= 1
        if _left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
