"""A federation with real clients and a real scorer, watched in Chromium from its start to its results."""

import re

from playwright.sync_api import Browser, expect

from tests.browser import faults_of, screenshot
from tests.system.conftest import CLIENTS, System

TRAINING_MS = 240_000


def test_a_federation_is_watched_by_the_link_that_start_prints(system: System, browser: Browser) -> None:
    scorer = system.start_scorer()
    system.start_coordinator(COORDINATOR_SCORER=scorer)
    system.start_training("llama", "--rounds", "8", "--evaluate-every", "2", "--local-epochs", "1")
    log = (system.processes.logs / "start.log").read_text()
    link = re.search(r"http://\S+/#pass=viewer\.\S+", log)
    assert link, log

    context = browser.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    faults = faults_of(page)
    page.goto(link[0])
    expect(page.locator(".headline")).to_contain_text("joining")
    expect(page.locator("#scorer")).to_contain_text("tokens a second")
    page.evaluate("window.stillTheSame = true")

    clients = system.start_clients()
    page.locator("#curves canvas").first.wait_for(timeout=TRAINING_MS)
    expect(page.locator("#clients tbody tr")).to_have_count(CLIENTS)
    expect(page.locator("#scorer .cards strong").nth(1)).to_have_text(re.compile(r"[1-9]"), timeout=60_000)
    best = page.locator(".cards article", has_text="Best validation MRR").locator("strong")
    expect(best).to_have_text(re.compile(r"0\.\d+"), timeout=TRAINING_MS)
    screenshot(page, "llama-training")
    expect(page.locator(".headline")).to_contain_text("finished", timeout=TRAINING_MS)
    system.wait(clients)
    expect(page.locator("#clients .concluded")).to_have_count(CLIENTS, timeout=30_000)
    results = page.get_by_role("region", name="Results")
    for mode in ("isolation", "federation", "fusion"):
        expect(results.get_by_role("row").filter(has_text=mode).first).to_contain_text(re.compile(r"0\.\d{3}"))
    assert page.evaluate("window.stillTheSame")
    screenshot(page, "llama-finished")
    context.close()
    assert faults == []
