from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser import faults_of
from tests.coordinator.support import OPERATOR, Server


@pytest.fixture
def page(browser: Browser, server: Server) -> Iterator[Page]:
    """A page of the server's with nobody signed in; at its end nothing may have gone wrong in it."""
    context = browser.new_context(base_url=str(server.http.base_url), viewport={"width": 1280, "height": 900})
    opened = context.new_page()
    opened.set_default_timeout(15_000)
    faults = faults_of(opened)
    yield opened
    context.close()
    assert faults == []


@pytest.fixture
def operator(page: Page) -> Page:
    """The page, with an operator signed in."""
    page.goto("/")
    page.get_by_label("Operators' token").fill(OPERATOR)
    page.get_by_role("button", name="Open the page").click()
    page.get_by_role("heading", name="Clients", exact=True).wait_for()
    expect(page.get_by_role("button", name="Start", exact=True)).to_be_enabled()  # its scripts have come
    return page
