"""A PostgreSQL server of the tests' own: in a temporary folder, on a Unix socket, not flushing to the disk."""

import itertools
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

from sqlalchemy import make_url

from tests.packages import install

TRUSTED = "postgres"
OPTIONS = {
    "listen_addresses": "",
    "fsync": "off",
    "full_page_writes": "off",
    "synchronous_commit": "off",
    "shared_buffers": "16MB",
    "log_min_messages": "fatal",
}
START_SECONDS = 60


class Missing(Exception):
    """There is no PostgreSQL here, and none can be installed; the message says what was tried."""


class Postgres:
    """A running server; calling it makes a fresh database and gives its URL."""

    def __init__(self) -> None:
        self.programs = _find()
        self._folder = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))  # short: a socket's path has 107 bytes
        self._numbers = itertools.count(1)
        if _user():
            shutil.chown(self._folder, _user())
        initdb = ["--auth=trust", f"--username={TRUSTED}", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync"]
        done = subprocess.run(
            [*self._as(), self.programs / "initdb", *initdb, self._data], capture_output=True, text=True
        )
        if done.returncode:
            raise Missing(f"initdb failed: {done.stderr}")
        self.start()

    def __call__(self) -> str:
        name = f"test_{next(self._numbers)}"
        self.psql(self.url(TRUSTED), "-c", f"CREATE DATABASE {name}")
        return self.url(name)

    def url(self, name: str) -> str:
        return f"postgresql://{TRUSTED}@/{name}?host={self._folder}"

    def drop(self, url: str) -> None:
        self.psql(self.url(TRUSTED), "-c", f"DROP DATABASE {make_url(url).database} WITH (FORCE)")

    def psql(self, url: str, *arguments: str) -> str:
        return self.tool("psql", url, "--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1", *arguments)

    def tool(self, name: str, *arguments: str) -> str:
        """What a program of PostgreSQL's prints."""
        return subprocess.run(
            [self.programs / name, *arguments], check=True, stdout=subprocess.PIPE, text=True, timeout=START_SECONDS
        ).stdout

    def start(self) -> None:
        settings = [f"--{name}={value}" for name, value in OPTIONS.items()]
        command = [self.programs / "postgres", "-D", self._data, "-k", self._folder, *settings]
        # It goes with the process that runs the tests, also if that is killed.
        self._process = subprocess.Popen(
            [*self._as("--pdeathsig", "INT"), *command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        until = time.monotonic() + START_SECONDS
        ready = [self.programs / "pg_isready", "--quiet", "--host", self._folder]
        while subprocess.run(ready).returncode:
            if self._process.poll() is not None or time.monotonic() > until:
                raise Missing("the server did not start")
            time.sleep(0.05)

    def stop(self) -> None:
        """Cut every connection and end; the databases stay."""
        self._process.send_signal(signal.SIGINT)
        self._process.wait(START_SECONDS)

    def close(self) -> None:
        self.stop()
        shutil.rmtree(self._folder)

    @property
    def _data(self) -> Path:
        return self._folder / "data"

    def _as(self, *options: str) -> list[str]:
        """The server refuses to run as root."""
        user = _user()
        if user:
            options += ("--reuid", user, "--regid", user, "--clear-groups")
        return ["setpriv", *options] if options else []


def _user() -> str | None:
    return "postgres" if os.geteuid() == 0 else None


def _find() -> Path:
    """The folder of the newest installation's programs."""
    if not _installed():
        install("postgresql")
    if not _installed():
        raise Missing("PostgreSQL is not installed: `apt-get install postgresql` as root")
    return max(_installed(), key=lambda path: int(re.sub(r"\D", "", path.parent.name)))


def _installed() -> list[Path]:
    return [path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/initdb")]
