"""Chromium for the tests, driven by Playwright: Debian's, so that nothing is downloaded from elsewhere."""

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, Page, sync_playwright

from tests.packages import install

SCREENSHOTS = Path(__file__).parents[1] / "screenshots"
"""What the pages looked like in the latest run; git does not see it."""
# Without the flags about the background, the browser looks for its maker's servers.
OWN = re.compile(r"http://127\.0\.0\.1:|data:|blob:")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]


class Missing(Exception):
    """There is no Chromium here, and none can be installed."""


@contextmanager
def chromium() -> Iterator[Browser]:
    """A headless Chromium.

    Raises:
        Missing: There is none.
    """
    program = _find()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=FLAGS)
        yield browser
        browser.close()


def faults_of(page: Page) -> list[str]:
    """What goes wrong in a page from now on: exceptions, what its policy forbade, and what it asks of other hosts."""
    faults: list[str] = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("request", lambda asked: None if OWN.match(asked.url) else faults.append(f"asked for {asked.url}"))
    page.on("console", lambda said: faults.append(said.text) if "Content Security Policy" in said.text else None)
    return faults


def screenshot(page: Page, name: str) -> None:
    """Keep what the page looks like, whole."""
    page.screenshot(path=SCREENSHOTS / f"{name}.png", full_page=True)


def _find() -> str:
    if _installed() is None:
        install("chromium", "fonts-dejavu-core")
    found = _installed()
    if found is None:
        raise Missing("Chromium is not installed: `apt-get install chromium` as root")
    return found


def _installed() -> str | None:
    return shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
