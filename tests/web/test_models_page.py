"""The Models screen: loading by stages, failures, unloading, and who waits."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Locator, Page, expect

if TYPE_CHECKING:
    from tests.web.conftest import Lab

    Theme = Literal["light", "dark"]

ROOT = Path(__file__).parents[2]
TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
LONG = {"T_e": 3000, "T_total": 3000, "end_probability": None}


class Models:
    """The Models screen of a lab over made-up models (models_server.py), and what a person does there."""

    def __init__(self, page: Page, url: str) -> None:
        self.page, self.url = page, url
        self.queue = page.get_by_role("region", name="Under way")

    def open(self) -> None:
        self.page.goto(f"{self.url}/models")
        expect(self.card("small")).to_contain_text("ready")

    def card(self, name: str) -> Locator:
        return self.page.get_by_role("article", name=name)

    def press(self, act: str, name: str) -> None:
        self.page.get_by_role("button", name=f"{act} {name}", exact=True).click()

    def load(self, name: str) -> None:
        main = self.page.get_by_role("main")
        main.get_by_label("Another model").fill(name)
        main.get_by_role("button", name="Load", exact=True).click()

    def start(self, user: str, **spec: Any) -> str:
        answer = self.page.request.post(f"{self.url}/api/runs", data={"user": user, **LONG, **spec})
        assert answer.status == 201, answer.text()
        run: str = answer.json()["id"]
        return run

    def cancel(self, *runs: str) -> None:
        for run in runs:
            self.page.request.post(f"{self.url}/api/runs/{run}/cancel")

    def axe(self) -> list[str]:
        options = {"runOnly": {"type": "tag", "values": TAGS}, "resultTypes": ["violations"]}
        found: list[dict[str, Any]] = Axe().run(self.page, options=options).response["violations"]
        return [f"{each['id']}: {node['html'][:200]}" for each in found for node in each["nodes"]]


@pytest.fixture(scope="module")
def address(server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a lab over made-up models. (`server` has seen that the page is built.)"""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    env = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    command = [sys.executable, str(ROOT / "tests/web/models_server.py"), str(port), str(tmp_path_factory.mktemp("lab"))]
    process = subprocess.Popen(command, env=env)
    url = f"http://127.0.0.1:{port}"
    try:
        for _ in range(200):
            try:
                urllib.request.urlopen(f"{url}/healthz", timeout=1)
                break
            except OSError:
                assert process.poll() is None, "the server ended"
                time.sleep(0.1)
        yield url
    finally:
        process.terminate()
        process.wait(10)


@pytest.fixture
def models(page: Page, address: str) -> Iterator[Models]:
    """The Models screen; what the console called an error fails the test, but for refusals that it is about."""
    errors: list[str] = []
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    found = Models(page, address)
    found.open()
    yield found
    # 409: an unload is refused; 422: the form asked about a model that was being unloaded.
    assert [error for error in errors if "409" not in error and "422" not in error] == []


def test_a_model_loads_by_stages_runs_and_is_unloaded(models: Models) -> None:
    models.load("second")
    card = models.card("second")
    for stage, words in [("files", "fetching files"), ("weights", "reading weights"), ("warm-up", "warming up")]:
        expect(card.locator("[aria-current=step]")).to_have_text(re.compile(stage))
        expect(card).to_contain_text(words)
        expect(card.get_by_role("progressbar", name="Loading second")).to_be_visible()
    expect(card).to_contain_text("ready")
    expect(card).to_contain_text("621 MiB")
    expect(card).to_contain_text("135 M")
    expect(card).to_contain_text("one-hot input equals token input: yes, by construction")

    models.press("Use", "second for the next run")
    expect(models.page.get_by_role("button", name="Model: second")).to_be_visible()
    run = models.start("Is it live?", model="second")
    expect(card).to_contain_text("1 run live")
    expect(card).to_contain_text("14 MiB")
    models.press("Unload", "second")
    expect(card.get_by_role("alert")).to_have_text("model 'second' has runs under way; stop them or wait for them")

    models.cancel(run)
    expect(card).not_to_contain_text("1 run live")
    models.press("Unload", "second")
    expect(card).to_contain_text("not loaded")
    expect(card.get_by_role("alert")).to_have_count(0)
    expect(models.page.get_by_role("button", name="Load second")).to_be_focused()


def test_a_comparison_runs_on_the_model_that_it_names(models: Models) -> None:
    page = models.page
    page.goto(f"{models.url}/compare")
    main = page.locator("#compare")
    model = main.get_by_role("combobox", name="Model")
    expect(model).to_have_value("small")
    page.goto(f"{models.url}/models")
    models.load("second")
    expect(models.card("second")).to_contain_text("loading")
    page.goto(f"{models.url}/compare")
    model.select_option("second")
    page.get_by_role("button", name="Run all").click()
    expect(main.get_by_role("status")).to_contain_text("waits for the model")
    expect(main.get_by_role("status")).to_have_text("all 2 done", timeout=30_000)
    runs = page.url.split("runs=")[1].split("&")[0].split(",")
    asked = [page.request.get(f"{models.url}/api/runs/{run}").json()["spec"]["model"] for run in runs]
    assert asked == ["second", "second"]
    run_all = page.get_by_role("button", name="Run all")
    expect(run_all).to_be_disabled()  # nothing has changed since
    model.select_option("small")
    expect(run_all).to_be_enabled()
    model.select_option("second")
    expect(run_all).to_be_disabled()
    page.goto(f"{models.url}/models")
    models.press("Unload", "second")


def test_a_load_that_fails_says_why_and_is_tried_again_or_dismissed(models: Models) -> None:
    models.load("broken/model")
    card = models.card("broken/model")
    sentence = "'broken/model' lacks 3 of its weights, lm_head.weight among them"
    expect(card).to_contain_text(sentence)
    models.press("Try again", "broken/model")
    expect(card).to_contain_text("loading")
    expect(card).to_contain_text(sentence)
    models.press("Dismiss", "broken/model")
    expect(card).to_have_count(0)
    expect(models.page.get_by_role("heading", name="Models", exact=True)).to_be_focused()


def test_the_default_model_is_unloaded_and_comes_again_with_the_next_run(models: Models) -> None:
    models.press("Unload", "small")
    expect(models.card("small")).to_contain_text("not loaded")
    models.page.get_by_role("link", name="Lab", exact=True).click()
    models.page.get_by_label("T_e", exact=True).fill("2")
    models.page.get_by_label("T_total", exact=True).fill("4")
    models.page.get_by_role("button", name="Generate").click()
    expect(models.page.get_by_role("status").first).to_contain_text("done")


def test_who_waits_is_told_here_and_on_the_run(models: Models) -> None:
    live, second, third = (models.start(user) for user in ("the first", "the second", "the third"))
    rows = models.queue.get_by_role("listitem")
    expect(rows).to_have_count(3)
    expect(rows.nth(0)).to_contain_text(re.compile(r"the first.*running, ≤ \d+ (s|min) left"))
    expect(rows.nth(1)).to_contain_text(re.compile(r"the second.*1st in line, ≤ \d+ (s|min)"))
    expect(rows.nth(2)).to_contain_text(re.compile(r"the third.*2nd in line, ≤ \d+ (s|min)"))
    expect(models.card("small")).to_contain_text("1 run live, 2 waiting")

    rows.nth(2).get_by_role("link").click()
    expect(models.page).to_have_url(re.compile(f"/run/{third}"))
    status = models.page.get_by_role("status")
    expect(status).to_contain_text(re.compile(r"queued.*2nd in line, ≤ \d+ (s|min)"))
    models.cancel(second)
    expect(status).to_contain_text("1st in line")
    models.cancel(live)
    expect(status).to_contain_text("thinking")
    models.cancel(third)
    models.page.go_back()
    expect(models.queue).to_contain_text("No run is live, and none waits.")


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_screen_is_accessible_in_every_state_and_fits_a_phone(models: Models, theme: Theme) -> None:
    models.page.emulate_media(color_scheme=theme)
    runs = [models.start("a-word-that-is-longer-than-a-phone-is-wide-" + "x" * 60) for _ in range(2)]
    models.load("broken/" + "model" * 15)
    expect(models.page.get_by_role("progressbar")).to_be_visible()
    assert models.axe() == []
    expect(models.card("broken/").get_by_text("lm_head.weight among them")).to_be_visible()
    assert models.axe() == []
    for width in (390, 320):
        models.page.set_viewport_size({"width": width, "height": 844})
        assert models.page.evaluate("document.documentElement.scrollWidth") <= width
        assert models.axe() == []
    models.press("Dismiss", "broken/" + "model" * 15)
    models.cancel(*runs)


def test_the_chip_leads_to_the_screen(lab: Lab) -> None:
    lab.page.get_by_role("button", name="Model: toy").click()
    lab.page.get_by_role("link", name="Memory, self-checks and who waits").click()
    expect(lab.page.get_by_role("heading", name="Models", exact=True)).to_be_visible()
    expect(lab.page.get_by_role("dialog", name="Models")).to_be_hidden()
    expect(lab.page.get_by_role("article", name="toy")).to_contain_text("not counted")
