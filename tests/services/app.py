"""An application that logs in every way a service does; a test serves it with uvicorn."""

import asyncio
import logging
import sys
import warnings
from collections.abc import AsyncIterator

import structlog
from fastapi import FastAPI, Request
from fastapi.responses import StreamingResponse

from protocol.problems import Busy
from services import logs, web

# As transformers does at import: a library that handles its own logs.
library = logging.getLogger("a_library")
library.addHandler(logging.StreamHandler(sys.stderr))
library.propagate = False


def create_app() -> FastAPI:
    logs.configure()
    logs.configure()
    app = FastAPI()
    web.install(app)
    released = asyncio.Event()

    @app.get("/items/{item}")
    async def read(item: int) -> None:
        logging.getLogger("services.somewhere").info("item %d of\ntwo lines", item)
        structlog.stdlib.get_logger("services.elsewhere").info("structured", item=item)
        library.warning("a library's words")
        logging.getLogger("httpx").info("a library's chatter")
        warnings.warn("a warning's words", stacklevel=1)

    @app.post("/echo")
    async def echo(request: Request) -> int:
        return len(await request.body())

    @app.get("/busy")
    async def busy() -> None:
        raise Busy("come back")

    @app.get("/fault/{words}")
    async def fault(words: str) -> None:
        raise RuntimeError(words)

    @app.get("/late-fault")
    async def late_fault() -> StreamingResponse:
        async def halves() -> AsyncIterator[bytes]:
            yield b"half"
            raise RuntimeError("words of a late fault")

        return StreamingResponse(halves())

    @app.get("/two-parts")
    async def two_parts() -> StreamingResponse:
        async def parts() -> AsyncIterator[bytes]:
            yield b"first"
            await released.wait()
            yield b"second"

        return StreamingResponse(parts())

    @app.post("/release")
    async def release() -> None:
        released.set()

    @app.get("/health")
    async def health() -> None:
        pass

    app.add_middleware(logs.RequestLog)
    return app
