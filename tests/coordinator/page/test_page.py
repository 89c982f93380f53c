import json
import re

import httpx
import pytest
from playwright.sync_api import Browser, Page, Route, expect

from tests.browser import faults_of, screenshot
from tests.coordinator.support import OPERATOR, Member, Server, bearer, evaluation, launch, members, settings_of


def trainers() -> list[Member]:
    return members(3, 3)


def conclude(server: Server, crowd: list[Member], begin: int = 0) -> None:
    """What clients, from one of them on, report of the best version once a training is over."""
    best = server.view().best_version
    assert best is not None
    for number, member in enumerate(crowd[begin:], begin):
        for mode, mrr in (("isolation", 0.4), ("federation", 0.5), ("fusion", 0.6)):
            reply = server.put_evaluation(member, best, evaluation(mrr + number / 10, mode=mode, split="test"))
            assert reply.status_code == 201, reply.text


def test_the_page_admits_its_own_files_alone(server: Server) -> None:
    policy = (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    )
    for path, status in (("/", 401), ("/", 200), ("/?training=none", 404)):
        reply = server.http.get(path, headers=bearer(OPERATOR) if status != 401 else {})
        assert reply.status_code == status
        assert reply.headers["content-security-policy"] == policy
        assert reply.headers["x-content-type-options"] == "nosniff"
        assert reply.headers["referrer-policy"] == "no-referrer"
        assert reply.headers["cross-origin-opener-policy"] == "same-origin"
        assert reply.headers["cache-control"] == "no-store"


def test_an_unknown_training_leads_to_the_latest(operator: Page, server: Server) -> None:
    operator.goto("/?training=gone")
    expect(operator.get_by_role("heading", name="No such training")).to_be_visible()
    operator.get_by_role("link", name="The latest one").click()
    expect(operator.get_by_role("heading", name="No training yet")).to_be_visible()


def test_a_wrong_token_opens_nothing(page: Page) -> None:
    page.goto("/")
    screenshot(page, "sign-in")
    page.get_by_label("Operators' token").fill("a-token-that-nobody-gave")
    page.get_by_role("button", name="Open the page").click()
    expect(page.get_by_role("alert")).to_contain_text("neither the operators' token nor a viewer's pass")
    expect(page.get_by_role("heading", name="Clients", exact=True)).to_have_count(0)


def test_the_empty_page_says_what_to_do_next(operator: Page, server: Server) -> None:
    expect(operator.get_by_role("heading", name="No training yet")).to_be_visible()
    address = str(server.http.base_url).rstrip("/")
    for command in ("join", "start"):
        expect(operator.get_by_text(f"tripleherd {command} --coordinator {address} ")).to_be_visible()
    expect(operator.get_by_text("Nobody has joined yet")).to_be_visible()
    screenshot(operator, "empty")


def test_a_training_is_started_and_watched_to_its_end_without_a_reload(operator: Page, server: Server) -> None:
    operator.evaluate("window.stillTheSame = true")
    operator.get_by_label("Begin with", exact=False).first.select_option("transe, our preset")
    for label, value in (("Clients to begin with", "2"), ("Rounds", "3"), ("Evaluate every", "1")):
        operator.get_by_label(label).first.fill(value)
    operator.get_by_label("Embedding size").fill("4")
    operator.get_by_label("Aggregation").select_option("median")
    screenshot(operator, "start")
    operator.get_by_role("button", name="Start", exact=True).click()
    expect(operator.locator(".headline")).to_contain_text("joining")
    expect(operator.locator("#start")).to_have_count(0)
    fixed = server.view().settings
    assert fixed is not None
    assert (fixed.interaction, fixed.clients, fixed.rounds, fixed.dim) == ("transe", 2, 3, 4)
    assert (fixed.local.reciprocal, fixed.local.learning_rate) == (True, 0.01)
    assert fixed.aggregation.strategy == "median"

    crowd = trainers()
    server.join(crowd[0])
    expect(operator.locator("#clients")).to_contain_text("m0")
    expect(operator.locator(".headline")).to_contain_text("1 has")
    server.join(crowd[1])
    expect(operator.locator(".headline .phase")).to_have_text("training")
    expect(operator.locator("#clients .training")).to_have_count(2)  # although neither has asked for the round yet
    server.act(crowd[0], server.view(crowd[0]))
    expect(operator.locator(f"#client-{crowd[0].id} .doing")).to_have_text("sent")
    expect(operator.locator(f"#client-{crowd[1].id} .doing")).to_have_text("training")
    screenshot(operator, "training")
    expect(operator.locator("#curves [data-chart=bytes] canvas")).to_be_visible()
    expect(operator.locator("#curves [data-chart=mrr]")).to_be_hidden()  # there is no value yet

    assert server.run(crowd).phase == "finished"
    expect(operator.locator(".headline")).to_contain_text("finished after 3 rounds")
    expect(operator.locator("#curves canvas")).to_have_count(4)
    chart = operator.get_by_role("img", name="Validation Hits@10")
    readout = operator.locator("[data-chart=hits_at_10] .readout")
    expect(readout).to_have_text(re.compile(r"^all clients 0\.0\d+ after round 3$"))
    chart.hover()
    expect(readout).to_have_text(re.compile(r"^Round [123]: all clients 0\.0\d+ · m0 .* · m1 .*$"))
    operator.mouse.move(0, 0)
    for member in crowd[:2]:
        server.view(member)
    results = operator.get_by_role("region", name="Results")
    expect(results).to_contain_text("0 of 2 so far")
    screenshot(operator, "concluding")
    conclude(server, crowd[:1])
    expect(results).to_contain_text("1 of 2 so far")
    expect(results).to_contain_text("0.500")
    conclude(server, crowd, begin=1)
    expect(results).not_to_contain_text("so far")
    rows = operator.get_by_role("region", name="Results").get_by_role("row")
    expect(rows.filter(has_text="federation").first).to_contain_text("0.550")
    by_client = [row.text_content() or "" for row in results.locator("details tbody tr").all()]
    assert [row.split()[0] for row in by_client] == ["m0"] * 3 + ["m1"] * 3
    assert all(mode in row for mode, row in zip(["isolation", "federation", "fusion"] * 2, by_client, strict=True))
    expect(operator.locator("#clients .concluded")).to_have_count(2)
    with operator.expect_download() as download:
        operator.get_by_role("link", name="Download the final model").click()
    assert download.value.path().stat().st_size > 100
    with operator.expect_download() as download:
        operator.get_by_role("link", name="Download the history").click()
    assert len(json.loads(download.value.path().read_text())["rounds"]) >= 3
    screenshot(operator, "finished")
    assert operator.evaluate("window.stillTheSame")


def test_an_operator_pauses_resumes_stops_and_revokes(operator: Page, server: Server) -> None:
    crowd = trainers()
    server.join(*crowd)
    server.begin(clients=2, deadline_seconds=600)
    operator.get_by_role("button", name="Pause").click()
    expect(operator.locator(".notice").first).to_contain_text("Paused by the operator")
    expect(operator.locator(".cards")).not_to_contain_text("closes")
    assert server.view().phase == "paused"
    screenshot(operator, "paused")
    operator.get_by_role("button", name="Resume").click()
    expect(operator.locator(".headline .phase")).to_have_text("training")
    expect(operator.locator(".cards")).to_contain_text("Round 1 closes")

    operator.once("dialog", lambda dialog: dialog.dismiss())
    revoke = operator.locator(f"#client-{crowd[1].id}").get_by_role("button", name="Revoke")
    revoke.click()
    assert server.operator("GET", "/clients").json()["clients"][1]["removed"] is None
    operator.once("dialog", lambda dialog: dialog.accept())
    revoke.click()
    expect(operator.locator(f"#client-{crowd[1].id} .doing")).to_have_text("removed")
    assert server.operator("GET", "/clients").json()["clients"][1]["removed_by"] == "operator"

    operator.once("dialog", lambda dialog: dialog.accept())
    operator.get_by_role("button", name="Stop").click()
    expect(operator.locator(".headline")).to_contain_text("finished")
    expect(operator.locator(".cards")).to_contain_text("no version was evaluated")
    expect(operator.locator("#start")).to_be_visible()


def test_a_refusal_names_the_field(operator: Page, server: Server) -> None:
    operator.get_by_text("All settings, as they will be sent").click()
    settings = json.loads(operator.locator("#all-settings").input_value())
    operator.locator("#all-settings").fill(json.dumps(settings | {"fraction": 7}))
    operator.locator("[data-path=fraction]").evaluate("box => box.removeAttribute('max')")
    operator.get_by_role("button", name="Start", exact=True).click()
    expect(operator.get_by_role("alert")).to_contain_text("fraction")
    expect(operator.locator("[data-path=fraction]")).to_have_attribute("aria-invalid", "true")
    operator.locator("#all-settings").fill(json.dumps(settings | {"quorum": settings["clients"] + 1}))
    operator.get_by_role("button", name="Start", exact=True).click()
    expect(operator.get_by_role("alert")).to_have_text("quorum: cannot be greater than clients")
    expect(operator.locator("[aria-invalid]")).to_have_count(1)
    expect(operator.locator("[data-path=quorum]")).to_have_attribute("aria-invalid", "true")
    screenshot(operator, "refused")
    assert server.view().phase == "idle"


def test_a_client_with_another_shared_key_stands_out(operator: Page, server: Server) -> None:
    crowd = [Member("one", ["x", "y"]), Member("two", ["x", "y", "z"]), Member("odd", ["x under another key"])]
    server.join(*crowd, Member("no entities", [], relations=["r"]))  # which has no part in sharing them
    shared = [operator.locator(f"#client-{each.id} td").nth(2) for each in crowd]
    expect(shared[2]).to_have_text("none")
    expect(shared[0]).to_have_text("2")
    expect(shared[1]).to_have_text("2")
    expect(operator.locator("td .alone")).to_have_count(1)
    expect(operator.locator(".notice.alone")).to_contain_text(f"odd {crowd[2].id[:8]} shares nothing with any other")
    screenshot(operator, "shares-nothing")
    server.begin(clients=2)
    for each in crowd[1:]:
        assert server.operator("DELETE", f"/clients/{each.id}").status_code == 204
    expect(shared[0]).to_have_text("0")  # there is nobody left to share with
    expect(operator.locator(".alone")).to_have_count(0)


def test_settings_that_leave_much_out_are_edited_and_sent(operator: Page, server: Server) -> None:
    operator.get_by_text("All settings, as they will be sent").click()
    everything = operator.locator("#all-settings")
    everything.fill('{"interaction": "transe", "dim": 4, "clients": 3}')
    operator.get_by_label("Local epochs").fill("2")
    operator.get_by_label("Seed").fill("5")
    operator.get_by_label("Seed").fill("")
    assert json.loads(everything.input_value()) == {
        "interaction": "transe",
        "dim": 4,
        "clients": 3,
        "local": {"local_epochs": 2},
    }
    operator.get_by_role("button", name="Start", exact=True).click()
    expect(operator.locator(".headline")).to_contain_text("joining")
    fixed = server.view().settings
    assert fixed is not None
    assert (fixed.local.local_epochs, fixed.quorum, fixed.seed) == (2, 1, 0)


def test_what_a_client_calls_itself_is_text(operator: Page, server: Server) -> None:
    names = ["<img src=x onerror=window.hacked=1>", '"><script>window.hacked=1</script>']
    crowd = [Member(name, ["e1", "e2"]) for name in names]
    server.join(*crowd)
    server.begin(clients=2, rounds=2, evaluate_every=1)
    server.run(crowd)
    conclude(server, crowd)
    expect(operator.locator("#curves canvas")).to_have_count(4)
    operator.get_by_text("By client").click()
    for name in names:
        expect(operator.locator("#clients")).to_contain_text(name)
        expect(operator.locator("#series")).to_contain_text(name)
        expect(operator.get_by_role("region", name="Results")).to_contain_text(name)
    assert operator.evaluate("window.hacked") is None
    assert operator.locator("img[src=x], main script").count() == 0


def test_a_viewer_watches_and_changes_nothing(browser: Browser, page: Page, server: Server) -> None:
    server.join(*trainers())
    server.begin(clients=2)
    token = server.operator("POST", "/session/pass").json()["token"]
    page.goto(f"/#pass={token}")
    expect(page.locator(".headline")).to_contain_text("transe")
    assert token not in page.url
    expect(page.get_by_text("viewer", exact=True)).to_be_visible()
    for name in ("Pause", "Stop", "Revoke"):
        expect(page.get_by_role("button", name=name)).to_have_count(0)
    refused = page.evaluate(
        "fetch('/round/stop', {method: 'POST', headers: {'Tripleherd-Page': '1'}}).then((reply) => reply.status)"
    )
    assert refused == 403
    page.get_by_role("button", name="Sign out").click()
    page.get_by_label("Operators' token").wait_for()


def test_an_open_page_asks_for_a_token_once_its_session_has_ended(operator: Page, server: Server) -> None:
    operator.context.clear_cookies()
    server.join(*trainers())  # an event, upon which the page looks again
    operator.get_by_label("Operators' token").wait_for()


def test_an_open_page_goes_on_after_the_coordinator_was_away(operator: Page, server: Server) -> None:
    port = server.http.base_url.port
    server.kill()
    expect(operator.get_by_text("The coordinator does not answer.")).to_be_visible(timeout=30_000)
    server.process = launch(port, settings_of(server.data_dir))
    expect(operator.get_by_text("The coordinator does not answer.")).to_have_count(0, timeout=60_000)
    server.http.close()
    server.http = httpx.Client(base_url=server.http.base_url, timeout=20, trust_env=False)
    server.join(*trainers())
    expect(operator.locator("#clients")).to_contain_text("m1", timeout=30_000)


def test_a_pass_leaves_the_address_of_an_open_page(operator: Page, server: Server) -> None:
    token = server.operator("POST", "/session/pass").json()["token"]
    operator.evaluate(f"location.hash = '#pass={token}'")
    operator.wait_for_function("location.hash === ''")
    expect(operator.get_by_text("operator", exact=True)).to_be_visible()


def test_the_size_of_rows_is_fixed_where_shared_tensors_depend_on_it(operator: Page) -> None:
    size = operator.locator("[data-path=dim]")
    expect(size).to_be_enabled()
    operator.get_by_text("All settings, as they will be sent").click()
    settings = json.loads(operator.locator("#all-settings").input_value())
    operator.locator("#all-settings").fill(json.dumps(settings | {"dense": {"w": {"shape": [256, 256]}}}))
    expect(size).to_be_disabled()


def test_past_trainings_are_chosen_and_compared(operator: Page, server: Server) -> None:
    crowd = trainers()
    server.join(*crowd)
    trainings = []
    for interaction in ("transe", "distmult"):
        trainings.append(server.begin(interaction=interaction, clients=2, rounds=2, evaluate_every=1))
        server.run(crowd)
        conclude(server, crowd)
    expect(operator.locator(".headline")).to_contain_text("distmult")
    server.join(Member("later", ["e1", "e2"]))
    card = operator.locator(".cards article", has_text="take part in each round").locator("strong")
    expect(card).to_have_text(str(len(crowd) + 1))
    operator.locator("select[name=training]").select_option(trainings[0])
    expect(operator.locator(".headline")).to_contain_text("transe")
    expect(card).to_have_text(str(len(crowd)))
    operator.locator("select[name=other]").select_option(trainings[1])
    results = operator.get_by_role("region", name="Results")
    expect(results.get_by_role("heading", name=trainings[0])).to_be_visible()
    expect(results.get_by_role("heading", name=trainings[1])).to_be_visible()
    expect(operator.locator("#series")).to_contain_text(f"training {trainings[1]}")
    screenshot(operator, "compared")
    operator.locator("select[name=training]").select_option("the latest")
    expect(operator.locator(".headline")).to_contain_text("distmult")
    assert "training=&" in operator.url
    operator.go_back()
    expect(operator.locator("select[name=training]")).to_have_value(trainings[0])
    operator.locator("select[name=training]").focus()
    operator.keyboard.press("ArrowUp")
    operator.keyboard.press("ArrowUp")  # a choice that is still being made is left alone, also by an event
    with operator.expect_response(lambda reply: reply.url == operator.url):
        server.join(Member("later still", ["e1", "e2"]))
    operator.wait_for_timeout(200)
    expect(operator.locator("select[name=training]")).to_have_value("")
    assert f"training={trainings[0]}" in operator.url
    operator.keyboard.press("Enter")
    expect(operator.locator(".headline")).to_contain_text("distmult")
    operator.go_back()
    expect(operator.locator("select[name=other]")).to_have_value(trainings[1])
    expect(results.get_by_role("heading", name=trainings[1])).to_be_visible()


def test_a_second_training_counts_its_own_rounds_and_says_what_stopping_it_means(
    operator: Page, server: Server
) -> None:
    crowd = trainers()[:2]
    server.join(*crowd)
    server.begin(clients=2, rounds=3, evaluate_every=1)
    server.run(crowd)
    server.begin(clients=2, rounds=8, evaluate_every=1, deadline_seconds=600)
    server.until(5, "training")
    server.run(crowd, stop_at=7)
    server.until(7, "evaluating")
    for member in crowd:
        server.act(member, server.view(member))
    server.until(7, "training")
    expect(operator.locator(".cards")).to_contain_text("Round 3 closes")
    expect(operator).to_have_title("training, round 3 · Tripleherd")
    expect(operator.locator(".cards")).to_contain_text("after round 2")
    cells = operator.locator(f"#client-{crowd[0].id} td")
    expect(cells.nth(3)).to_have_text("2")
    operator.get_by_text("The latest rounds as numbers").click()
    expect(operator.locator("#rounds tbody th")).to_have_text(["3", "2", "1"])
    assert server.operator("POST", "/round/stop").status_code == 200
    conclude(server, crowd)
    results = operator.get_by_role("region", name="Results")
    expect(results).to_contain_text("Stopped after 2 of 8 rounds; isolation had the epochs of up to 8.")
    screenshot(operator, "stopped")


def test_a_choice_made_before_the_scripts_have_come_is_taken(operator: Page, server: Server) -> None:
    server.join(*trainers())
    first = server.begin(clients=2)
    assert server.operator("POST", "/round/stop").status_code == 200
    server.begin(interaction="distmult", clients=2)
    expect(operator.locator(".headline")).to_contain_text("distmult")
    held: list[Route] = []
    operator.route("**/page.js*", lambda route: held.append(route), times=1)
    operator.goto("/", wait_until="commit")
    operator.locator("select[name=training]").select_option(first)
    operator.wait_for_timeout(200)
    assert "training=" not in operator.url
    held[0].continue_()
    expect(operator.locator(".headline")).to_contain_text("transe")
    assert f"training={first}" in operator.url


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_a_phone_in_both_schemes(browser: Browser, server: Server, scheme: str) -> None:
    crowd = [Member("a hospital with quite a long name, so that a column wants to be wide", ["e1", "e2"]), *trainers()]
    server.join(*crowd)
    server.begin(clients=3, rounds=2, evaluate_every=1)
    server.run(crowd)
    conclude(server, crowd)
    context = browser.new_context(
        base_url=str(server.http.base_url), viewport={"width": 375, "height": 740}, color_scheme=scheme, has_touch=True
    )
    page = context.new_page()
    faults = faults_of(page)
    page.goto(f"/#pass={server.operator('POST', '/session/pass').json()['token']}")
    expect(page.locator("#curves canvas")).to_have_count(4)
    assert page.evaluate("document.documentElement.scrollWidth") <= 375
    background = page.evaluate("getComputedStyle(document.documentElement).backgroundColor.match(/\\d+/g).map(Number)")
    assert (sum(background) < 200) == (scheme == "dark")
    screenshot(page, f"phone-{scheme}")
    context.close()
    assert faults == []


def test_the_keyboard_is_enough(page: Page, server: Server) -> None:
    server.join(*trainers())
    server.begin(clients=2)
    page.goto("/")
    page.keyboard.type("operators-token-for-tests")  # the field has the focus
    page.keyboard.press("Enter")
    expect(page.locator("time[data-until]")).to_contain_text("in ")  # its scripts have come
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
    for _ in range(20):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.textContent.trim()") == "Pause":
            break
    page.keyboard.press("Enter")
    expect(page.locator(".notice").first).to_contain_text("Paused")
