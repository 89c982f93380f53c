"""A body on its way to the disk: hashed and written part by part, so that memory holds two parts of it and no more."""

import asyncio
import hashlib
from pathlib import Path
from types import TracebackType
from typing import Self

PART = 1 << 20
"""Bytes that are gathered before a thread hashes and writes them: a change of threads costs as much as some KiB."""


class Incoming:
    """One body, as `services.web.receive_body` passes it on. An async context manager, which closes the file.

    A part is hashed and written while the next one comes.
    """

    def __init__(self, file: Path) -> None:
        """`file` is made; whoever made this deletes it.

        Raises:
            OSError: It cannot be written.
        """
        self._hash = hashlib.sha256()
        self._gathered = bytearray()
        self._out = file.open("xb", buffering=0)
        self._writing: asyncio.Future[None] | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        if self._writing is not None:
            # A thread must not write to a file that is closed; what it raises is no news after what ended the context.
            await asyncio.wait([self._writing])
            self._writing.exception()
        self._out.close()

    async def take(self, chunk: bytes) -> None:
        """One more part.

        Raises:
            OSError: The disk is full, or fails.
        """
        self._gathered += chunk
        if len(self._gathered) >= PART:
            await self._flush()

    async def end(self) -> bytes:
        """Write what is gathered still; returns the SHA-256 of all.

        Raises:
            OSError: The disk is full, or fails.
        """
        await self._flush()
        await self._written()
        return self._hash.digest()

    async def _flush(self) -> None:
        await self._written()
        part, self._gathered = self._gathered, bytearray()
        self._writing = asyncio.get_running_loop().run_in_executor(None, self._write, part)

    async def _written(self) -> None:
        if self._writing is not None:
            await asyncio.shield(self._writing)  # the thread goes on where its request is cancelled
            self._writing = None

    def _write(self, part: bytearray) -> None:
        self._hash.update(part)
        rest = memoryview(part)
        while rest:
            rest = rest[self._out.write(rest) :]
