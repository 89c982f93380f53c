"""A body on its way to the disk: hashed and written part by part, so that memory holds a part of it and no more."""

import asyncio
import hashlib
from pathlib import Path

PART = 1 << 20
"""Bytes that are gathered before a thread hashes and writes them: a change of threads costs as much as some KiB."""


class Incoming:
    """One body, as `services.web.receive_body` passes it on.

    Attributes:
        size: Bytes that have come so far.
    """

    def __init__(self, file: Path) -> None:
        """`file` is made; whoever made this deletes it.

        Raises:
            OSError: It cannot be written.
        """
        self.size = 0
        self._hash = hashlib.sha256()
        self._gathered = bytearray()
        self._out = file.open("xb", buffering=0)

    async def take(self, chunk: bytes) -> None:
        """One more part.

        Raises:
            OSError: The disk is full, or fails.
        """
        self.size += len(chunk)
        self._gathered += chunk
        if len(self._gathered) >= PART:
            await self._flush()

    async def end(self) -> bytes:
        """Write what is gathered still; returns the SHA-256 of all.

        Raises:
            OSError: The disk is full, or fails.
        """
        await self._flush()
        return self._hash.digest()

    def close(self) -> None:
        """Close the file."""
        self._out.close()

    async def _flush(self) -> None:
        part, self._gathered = self._gathered, bytearray()
        await asyncio.to_thread(self._write, part)

    def _write(self, part: bytearray) -> None:
        self._hash.update(part)
        rest = memoryview(part)
        while rest:
            rest = rest[self._out.write(rest) :]
