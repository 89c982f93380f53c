"""Chromium for the tests, driven by Playwright: Debian's, so that nothing is downloaded from elsewhere."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, Page, sync_playwright

SCREENSHOTS = Path(__file__).parents[1] / "screenshots"
"""What the pages looked like in the latest run; git does not see it."""
# Without the flags about the background, the browser looks for its maker's servers.
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


def screenshot(page: Page, name: str) -> None:
    """Keep what the page looks like, whole."""
    page.screenshot(path=SCREENSHOTS / f"{name}.png", full_page=True)


def _find() -> str:
    found = _installed()
    if found is None and os.geteuid() == 0 and shutil.which("apt-get"):
        for command in (["update"], ["install", "-y", "--no-install-recommends", "chromium", "fonts-dejavu-core"]):
            subprocess.run(
                ["apt-get", *command],
                env=os.environ | {"DEBIAN_FRONTEND": "noninteractive"},
                capture_output=True,
                timeout=280,
            )
        found = _installed()
    if found is None:
        raise Missing("Chromium is not installed: `apt-get install chromium` as root")
    return found


def _installed() -> str | None:
    return shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
